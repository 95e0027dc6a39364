/**
 * Which matrices are quantized, and how: mlx-lm's defaults, its architectures' own rules, and its mixed recipes.
 * Reference: mlx-lm, utils.py `quantize_model`, convert.py `mixed_quant_predicate_builder`, models' `quant_predicate`.
 */

import { isLosslessNumber } from 'lossless-json';

import { isObject } from '../cache/model-folder.js';
import { MlxkError } from '../errors.js';
import type { NativeQuantization } from '../native.js';
import { foreignQuantization } from './foreign-storage.js';
import { AT_EIGHT_BITS, CLASSES, NEVER } from './recorded-classes.js';
import type { Config } from './source.js';

export type QuantizationMode = NativeQuantization['mode'];

/** Widths that the contract allows. */
export const QUANTIZED_BITS = [2, 3, 4, 6, 8] as const;
export type QuantizedBits = (typeof QUANTIZED_BITS)[number];

/** Group and width of a mode; the floating-point modes have one of each. */
export const MODE_DEFAULTS: Readonly<
  Record<QuantizationMode, { readonly groupSize: number; readonly bits: QuantizedBits }>
> = {
  affine: { groupSize: 64, bits: 4 },
  mxfp4: { groupSize: 32, bits: 4 },
  mxfp8: { groupSize: 32, bits: 8 },
  nvfp4: { groupSize: 16, bits: 4 },
};

/** Low and high width of each recipe. */
export const MIXED_RECIPES = {
  mixed_2_6: [2, 6],
  mixed_3_4: [3, 4],
  mixed_3_6: [3, 6],
  mixed_4_6: [4, 6],
} as const;
export type MixedRecipe = keyof typeof MIXED_RECIPES;

export interface QuantizeSettings extends NativeQuantization {
  readonly mixed?: MixedRecipe;
}

const EIGHT_BITS: NativeQuantization = { mode: 'affine', bits: 8, groupSize: 64 };

/** MLX packs and unpacks some formats by more columns than a group has. */
const LEAST_COLUMNS: Partial<Record<QuantizationMode, number>> = { nvfp4: 32 };
/** For classes that are not recorded: routers decide between experts, and few bits there cost most. */
const ROUTER = /(^|\.)(gate|router|shared_expert_gate)$/;
/** What has two axes or more and is no matrix of a linear layer or an embedding. */
const NO_MATRIX = /(^|\.)conv(1d)?$|norm$/;

/** Chooses for one model; asked in parameter order, so that the config lists exceptions as mlx-lm does. */
export class Quantizer {
  readonly #settings: QuantizeSettings;
  readonly #modelClass: string;
  readonly #layers: number;
  /** Which part of a path is the number of its layer. */
  readonly #layerPart: number;
  readonly #dense: readonly string[];
  readonly #exceptions: Config = {};

  /**
   * @param dense modules that are not quantized, whatever the settings
   * @throws MlxkError `validation_error` for a recipe on a model without `down_proj` modules.
   */
  constructor(
    settings: QuantizeSettings,
    modelClass: string,
    { paths, dense }: { readonly paths: readonly string[]; readonly dense: readonly string[] },
  ) {
    this.#settings = settings;
    this.#dense = dense;
    this.#modelClass = modelClass;
    const layers = paths.map((path) => Number(/\.(?:layers|h)\.(\d+)\./.exec(path)?.[1] ?? -1));
    this.#layers = Math.max(...layers, -1) + 1;
    const down = paths.find((path) => path.includes('down_proj'))?.split('.') ?? [];
    this.#layerPart = down.findIndex((part) => /^\d+$/.test(part));
    if (settings.mixed !== undefined && down.length === 0) {
      throw new MlxkError(
        'validation_error',
        `the recipe ${settings.mixed} does not fit ${modelClass}: it has no down_proj`,
        { reason: 'recipe_unsuitable', detail: { recipe: settings.mixed } },
      );
    }
  }

  /** How a matrix is quantized, or `undefined` when it stays. */
  choose(path: string, shape: readonly number[]): NativeQuantization | undefined {
    const columns = shape.at(-1) ?? 0;
    if (shape.length < 2 || columns === 0 || columns % this.#settings.groupSize !== 0)
      return undefined;
    if (NO_MATRIX.test(path) || NEVER[this.#modelClass]?.includes(suffixOf(path)) === true) {
      return undefined;
    }
    const { mode, bits, groupSize } = this.#settings;
    if (this.#dense.includes(path) || columns % (LEAST_COLUMNS[mode] ?? 1) !== 0) {
      this.#exceptions[path] = false;
      return undefined;
    }
    const usual = { mode, bits, groupSize };
    if (this.#settings.mixed !== undefined) {
      const mixed = { ...usual, bits: this.#mixedBits(this.#settings.mixed, path) };
      this.#exceptions[path] = { group_size: groupSize, bits: mixed.bits, mode };
      return mixed;
    }
    const isRecorded = CLASSES[this.#modelClass] !== undefined;
    const entry = isRecorded
      ? AT_EIGHT_BITS[this.#modelClass]?.[suffixOf(path)]
      : ROUTER.test(path)
        ? { group_size: EIGHT_BITS.groupSize, bits: EIGHT_BITS.bits }
        : undefined;
    if (entry === undefined) return usual;
    const fits = columns % EIGHT_BITS.groupSize === 0;
    const eight = fits ? EIGHT_BITS : { ...EIGHT_BITS, groupSize: 32 };
    if (columns % eight.groupSize !== 0) {
      this.#exceptions[path] = false;
      return undefined;
    }
    this.#exceptions[path] = fits ? entry : { group_size: eight.groupSize, bits: eight.bits };
    return eight;
  }

  /** Notes a matrix that stays as it was quantized. */
  keep(path: string, { mode, bits, groupSize }: NativeQuantization): void {
    this.#exceptions[path] = { group_size: groupSize, bits, mode };
  }

  /** `quantization` of config.json. */
  config(): Config {
    const { mode, bits, groupSize } = this.#settings;
    return { group_size: groupSize, bits, mode, ...this.#exceptions };
  }

  #mixedBits(recipe: MixedRecipe, path: string): QuantizedBits {
    const [low, high] = MIXED_RECIPES[recipe];
    const number = Number(path.split('.')[this.#layerPart] ?? 0);
    const layer = Number.isInteger(number) ? number : 0;
    const eighth = Math.floor(this.#layers / 8);
    const important =
      layer < eighth || layer >= Math.floor((7 * this.#layers) / 8) || (layer - eighth) % 3 === 2;
    if (path.includes('lm_head')) return high;
    return important && /v_proj|v_a_proj|v_b_proj|down_proj/.test(path) ? high : low;
  }
}

/** The last two names of a path, as exceptions are recorded. */
export function suffixOf(path: string): string {
  return path
    .split('.')
    .filter((part) => !/^\d+$/.test(part))
    .slice(-2)
    .join('.');
}

/** How the matrices of a quantized source were quantized. */
export class SourceQuantization {
  readonly #config: Config | undefined;
  readonly #isFloat8: boolean;
  /** `quantization` of a config.json that says it in another toolkit's words; `null`: nothing is quantized any more. */
  readonly restated: Config | null | undefined;

  /** @throws MlxkError `not_implemented` for a method that is not read. */
  constructor(config: Config) {
    const own = config['quantization'];
    const stated = config['quantization_config'];
    const foreign = foreignQuantization(config);
    const method = foreign?.['quant_method'];
    this.#isFloat8 = method === 'fp8';
    if (isObject(own)) this.#config = { ...own };
    else if (isObject(stated) && foreign === undefined) this.#config = { ...stated };
    else if (method === 'mxfp4') this.#config = { group_size: 32, bits: 4, mode: 'mxfp4' };
    else if (method === 'mxfp8') this.#config = { group_size: 32, bits: 8, mode: 'mxfp8' };
    else if (method === 'fp8') this.restated = null;
    else if (foreign?.['format'] === 'pack-quantized') {
      this.restated = this.#config = { group_size: 32, bits: 4, mode: 'affine' };
    } else if (foreign?.['format'] === 'mxfp4-pack-quantized') {
      this.restated = this.#config = { group_size: 32, bits: 4, mode: 'mxfp4' };
    } else if (foreign !== undefined && !(method === 'bitnet' && config['model_type'] === method)) {
      throw new MlxkError(
        'not_implemented',
        `a source quantized by ${JSON.stringify(method)} is not converted; ` +
          'start from the model it was made of',
        { reason: 'quantization_unsupported', detail: { quant_method: method } },
      );
    }
  }

  get present(): boolean {
    return this.#config !== undefined || this.#isFloat8;
  }

  /** Width stated for the whole model. */
  get bits(): number | undefined {
    return whole(this.#config?.['bits']);
  }

  /**
   * Parameters of one matrix: its own entry, else those of the model where they agree with the shapes, else what the
   * shapes say (mlx-lm's `infer_quant_config`).
   */
  of(
    path: string,
    weight: readonly number[],
    scales: readonly number[],
    scaleType: string,
  ): NativeQuantization {
    const words = 32 * (weight.at(-1) ?? 0);
    const groups = scales.at(-1) ?? 0;
    const fits = (q: NativeQuantization): boolean =>
      groups > 0 &&
      q.bits * q.groupSize * groups === words &&
      (q.mode === 'affine') === (scaleType !== 'U8');
    const own = this.#config?.[path];
    const candidates = [
      ...(isObject(own) ? [own] : []),
      ...(this.#config === undefined ? [] : [this.#config]),
    ].map(parametersIn);
    const inferred =
      scaleType === 'U8'
        ? (['mxfp4', 'mxfp8', 'nvfp4'] as const).map((mode) => ({ mode, ...MODE_DEFAULTS[mode] }))
        : [32, 64, 128].flatMap((groupSize) => {
            const bits = groups > 0 ? words / (groups * groupSize) : 0;
            return [2, 3, 4, 5, 6, 8].includes(bits)
              ? [{ mode: 'affine' as const, bits, groupSize }]
              : [];
          });
    const stated = candidates.find(fits);
    const matching = inferred.filter(fits);
    const found = stated ?? (matching.length === 1 ? matching[0] : undefined);
    if (found !== undefined) return found;
    throw new MlxkError('validation_error', `cannot tell how ${path} was quantized`, {
      reason: 'quantization_unknown',
      detail: { tensor: path },
    });
  }
}

function parametersIn(entry: Readonly<Record<string, unknown>>): NativeQuantization {
  const mode = entry['mode'];
  return {
    mode: mode === 'mxfp4' || mode === 'mxfp8' || mode === 'nvfp4' ? mode : 'affine',
    bits: whole(entry['bits']) ?? 0,
    groupSize: whole(entry['group_size']) ?? 0,
  };
}

function whole(value: unknown): number | undefined {
  const number = isLosslessNumber(value) ? Number(value.value) : value;
  return typeof number === 'number' && Number.isInteger(number) ? number : undefined;
}
