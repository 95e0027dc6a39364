/**
 * Tensors as other toolkits store them, under MLX's names and with what is to be done to their numbers: float8 with a
 * scale for each block, integers of four bits as compressed-tensors packs them, MXFP8 and MXFP4. What loading does in
 * native/foreign_storage.cpp, told as a plan.
 */

import { isLosslessNumber } from 'lossless-json';

import { isObject } from '../cache/model-folder.js';
import { MlxkError } from '../errors.js';
import type { Config, SourceTensor } from './source.js';

/** Scales of a float8 matrix, one for each block of it. */
export interface BlockScales {
  readonly scales: SourceTensor;
  /** Rows and columns of a block. */
  readonly block: readonly [number, number];
}

const FLOATS: ReadonlySet<string> = new Set(['F16', 'BF16', 'F32']);
const BYTES: ReadonlySet<string> = new Set(['U8', 'F8_E8M0']);
const WORDS: ReadonlySet<string> = new Set(['I32', 'U32']);
/** Of activations, which nothing here quantizes. */
const DROPPED = /(activation_scale|\.input_scale)$/;
const INT4_ZERO = -8;

/** What config.json says of the storage, where it is not MLX's own. */
export function foreignQuantization(config: Config): Config | undefined {
  if (isObject(config['quantization'])) return undefined;
  const text = config['text_config'];
  const stated =
    config['quantization_config'] ?? (isObject(text) ? text['quantization_config'] : undefined);
  return isObject(stated) && stated['quant_method'] !== undefined ? { ...stated } : undefined;
}

/** @throws MlxkError `validation_error` for scales that are missing or do not fit their matrix. */
export function withMlxStorage(tensors: readonly SourceTensor[], config: Config): SourceTensor[] {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const block = blockOf(foreignQuantization(config));
  const taken = new Set<string>();
  const partner = (name: string, of: SourceTensor): SourceTensor => {
    const found = byName.get(name);
    if (found === undefined) {
      throw refusal(
        'tensor_missing',
        `the weights lack ${name}, which belongs to ${of.name}`,
        name,
      );
    }
    taken.add(name);
    return found;
  };
  const converted = tensors.map((tensor): SourceTensor[] | undefined => {
    const { name, encoding } = tensor;
    const packed = /^(.+)\.weight_packed$/.exec(name)?.[1];
    if (packed !== undefined) {
      taken.add(name);
      const scales = partner(`${packed}.weight_scale`, tensor);
      taken.add(`${packed}.weight_shape`);
      return BYTES.has(encoding)
        ? asMx(packed, tensor, scales, 2)
        : asAffine(packed, tensor, scales);
    }
    if (encoding !== 'F8_E4M3') return undefined;
    const hasScales = byName.has(`${name}_scale_inv`);
    if (!hasScales && !name.endsWith('.weight')) return undefined;
    taken.add(name);
    const scales = partner(`${name}_scale_inv`, tensor);
    const groups = [...tensor.shape.slice(0, -1), (tensor.shape.at(-1) ?? 0) / 32];
    if (BYTES.has(scales.encoding) && scales.shape.join() === groups.join()) {
      return asMx(name.replace(/\.weight$/, ''), tensor, scales, 1);
    }
    return [{ ...tensor, blockScales: blocksOf(tensor, scales, block) }];
  });
  return tensors.flatMap((tensor, at) => {
    const made = converted[at];
    if (made !== undefined) return made;
    return taken.has(tensor.name) || DROPPED.test(tensor.name) ? [] : [tensor];
  });
}

function asAffine(module: string, packed: SourceTensor, scales: SourceTensor): SourceTensor[] {
  const rows = packed.shape.slice(0, -1).join();
  const inputs = 8 * (packed.shape.at(-1) ?? 0);
  const group = inputs / (scales.shape.at(-1) ?? 0);
  const fits = scales.shape.slice(0, -1).join() === rows && [32, 64, 128].includes(group);
  if (!WORDS.has(packed.encoding)) throw wrongType(packed, 'I32');
  if (!FLOATS.has(scales.encoding)) throw wrongType(scales, 'a floating-point type');
  if (!fits) throw wrongShape(scales, packed);
  return [
    { ...packed, name: `${module}.weight`, encoding: 'U32' },
    { ...scales, name: `${module}.scales` },
    { ...scales, name: `${module}.biases`, times: INT4_ZERO },
  ];
}

/** MXFP8 or MXFP4, whose bytes are MLX's own. */
function asMx(
  module: string,
  packed: SourceTensor,
  scales: SourceTensor,
  inByte: number,
): SourceTensor[] {
  const columns = packed.shape.at(-1) ?? 0;
  const rows = packed.shape.slice(0, -1);
  const fits = [...rows, (columns * inByte) / 32].join() === scales.shape.join();
  if (!BYTES.has(scales.encoding)) throw wrongType(scales, 'U8');
  if (!fits) throw wrongShape(scales, packed);
  return [
    { ...packed, name: `${module}.weight`, encoding: 'U32', shape: [...rows, columns / 4] },
    { ...scales, name: `${module}.scales`, encoding: 'U8' },
  ];
}

function blocksOf(
  weight: SourceTensor,
  scales: SourceTensor,
  block: readonly [number, number],
): BlockScales {
  if (!FLOATS.has(scales.encoding)) throw wrongType(scales, 'a floating-point type');
  const [rows = 0, columns = 0] = weight.shape.slice(-2);
  const leading = weight.shape.slice(0, -2);
  const isOne = (shape: readonly number[]): boolean => shape.every((size) => size === 1);
  const isWhole =
    (leading.length === 0 && isOne(scales.shape)) ||
    scales.shape.join() === [...leading, 1, 1].join();
  if (isWhole) return { scales, block: [rows, columns] };
  const blocks = [...leading, Math.ceil(rows / block[0]), Math.ceil(columns / block[1])];
  if (weight.shape.length < 2 || blocks.join() !== scales.shape.join()) {
    throw wrongShape(scales, weight);
  }
  return { scales, block };
}

function blockOf(stated: Config | undefined): readonly [number, number] {
  const value = stated?.['weight_block_size'];
  if (value === undefined || value === null) return [128, 128];
  const sizes = Array.isArray(value)
    ? value.map((size: unknown) => (isLosslessNumber(size) ? Number(size.value) : size))
    : [];
  const [rows, columns] = sizes;
  if (sizes.length === 2 && isSize(rows) && isSize(columns)) return [rows, columns];
  throw new MlxkError('validation_error', 'weight_block_size must be two whole numbers above 0', {
    reason: 'config_invalid',
    detail: { field: 'weight_block_size' },
  });
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0;
}

function wrongType(tensor: SourceTensor, expected: string): MlxkError {
  const message = `${tensor.name} is ${tensor.encoding}, expected ${expected}`;
  return refusal('tensor_type', message, tensor.name);
}

function wrongShape(scales: SourceTensor, weight: SourceTensor): MlxkError {
  const message = `${scales.name} is [${scales.shape.join(', ')}], which does not fit ${weight.name}, [${weight.shape.join(', ')}]`;
  return refusal('tensor_shape', message, scales.name);
}

function refusal(reason: string, message: string, tensor: string): MlxkError {
  return new MlxkError('validation_error', message, { reason, detail: { tensor } });
}
