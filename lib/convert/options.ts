/**
 * Options of a conversion: what is to be done, checked and with every default filled in.
 */

import {
  MIXED_RECIPES,
  type MixedRecipe,
  MODE_DEFAULTS,
  QUANTIZED_BITS,
  type QuantizationMode,
  type QuantizedBits,
  type QuantizeSettings,
} from './quantization.js';
import { CALLBACK, check, SIGNAL } from '../cache/arguments.js';
import { named, outOfRange, wrongType } from '../options.js';
import type { FloatType } from './plan.js';

/** Type of the numbers that are not quantized. */
export type ConvertDtype = 'float16' | 'bfloat16' | 'float32';

export interface ConvertProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ConvertOptions {
  /** Rebuilds the index of the weight files; nothing else changes. */
  repairIndex?: boolean;
  /** Bits a quantized number takes. */
  quantize?: QuantizedBits;
  /** How numbers are quantized. Default: `affine`. */
  mode?: QuantizationMode;
  /** Numbers that share a scale. Default: 64, or what the mode prescribes. */
  groupSize?: number;
  /** A recipe that gives the layers that matter most more bits. */
  mixed?: MixedRecipe;
  /** Turns quantized weights into plain ones. */
  dequantize?: boolean;
  /** Type of the numbers that are not quantized. Default: `torch_dtype` of config.json, else as they are. */
  dtype?: ConvertDtype;
  /** Leaves the result unchecked. */
  skipHealth?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: ConvertProgress) => void;
}

type ConvertMode = 'repair-index' | 'quantize' | 'dequantize' | 'dtype';

export interface ConvertSettings {
  readonly mode: ConvertMode;
  readonly quantize?: QuantizeSettings;
  readonly dtype?: FloatType;
  readonly skipHealth: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ConvertProgress) => void;
}

export const DTYPES: Readonly<Record<ConvertDtype, FloatType>> = {
  float16: 'F16',
  bfloat16: 'BF16',
  float32: 'F32',
};

const GROUP_SIZES = [32, 64, 128];

const KNOWN =
  'repairIndex quantize mode groupSize mixed dequantize dtype skipHealth signal onProgress'.split(
    ' ',
  );

/** @throws TypeError or RangeError that names the option and its value. */
export function parseConvertOptions(options: ConvertOptions): ConvertSettings {
  named(options, KNOWN);
  const { signal, onProgress, dtype } = options;
  if (signal !== undefined) check('signal', signal, SIGNAL);
  if (onProgress !== undefined) check('onProgress', onProgress, CALLBACK);
  const skipHealth = flag(options, 'skipHealth');
  const mode = modeOf(options);
  if (dtype !== undefined) oneOf('dtype', dtype, Object.keys(DTYPES));
  if (mode === 'repair-index' && dtype !== undefined) {
    throw new RangeError('dtype does not go with repairIndex, which leaves the weights alone');
  }
  const quantize = quantizeSettings(options);
  return {
    mode,
    skipHealth,
    ...(quantize !== undefined && { quantize }),
    ...(dtype !== undefined && { dtype: DTYPES[dtype] }),
    ...(signal !== undefined && { signal }),
    ...(onProgress !== undefined && { onProgress }),
  };
}

function modeOf(options: ConvertOptions): ConvertMode {
  const asked: ConvertMode[] = [];
  if (flag(options, 'repairIndex')) asked.push('repair-index');
  if (options.quantize !== undefined) asked.push('quantize');
  if (flag(options, 'dequantize')) asked.push('dequantize');
  const [mode, another] = asked;
  if (another !== undefined) {
    throw new RangeError(
      `choose one of repairIndex, quantize and dequantize, not ${asked.join(' and ')}`,
    );
  }
  if (mode !== undefined) return mode;
  if (options.dtype !== undefined) return 'dtype';
  throw new RangeError('say what to do: repairIndex, quantize, dequantize or dtype');
}

function quantizeSettings(options: ConvertOptions): QuantizeSettings | undefined {
  const { quantize: bits, mode = 'affine', groupSize, mixed } = options;
  if (bits === undefined) {
    for (const name of ['mode', 'groupSize', 'mixed'] as const) {
      if (options[name] !== undefined) throw new RangeError(`${name} needs quantize`);
    }
    return undefined;
  }
  oneOf('quantize', bits, QUANTIZED_BITS);
  oneOf('mode', mode, Object.keys(MODE_DEFAULTS));
  const usual = MODE_DEFAULTS[mode];
  if (mode === 'affine') {
    if (groupSize !== undefined) oneOf('groupSize', groupSize, GROUP_SIZES);
  } else {
    if (bits !== usual.bits)
      throw new RangeError(`quantize must be ${usual.bits} with mode ${mode}, got ${bits}`);
    if (groupSize !== undefined) oneOf(`groupSize with mode ${mode}`, groupSize, [usual.groupSize]);
    if (mixed !== undefined) throw new RangeError(`mixed goes with mode affine, not with ${mode}`);
  }
  if (mixed !== undefined) oneOf('mixed', mixed, Object.keys(MIXED_RECIPES));
  return {
    mode,
    bits,
    groupSize: groupSize ?? usual.groupSize,
    ...(mixed !== undefined && { mixed }),
  };
}

function flag(options: ConvertOptions, name: 'repairIndex' | 'dequantize' | 'skipHealth'): boolean {
  const value: unknown = options[name] ?? false;
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value);
  return value;
}

function oneOf(name: string, value: unknown, allowed: readonly (string | number)[]): void {
  if (allowed.some((entry) => entry === value)) return;
  const expected = allowed.length === 1 ? String(allowed[0]) : `one of ${allowed.join(', ')}`;
  throw outOfRange(name, expected, value);
}
