/**
 * Lays out the weight files of a converted model: what every tensor becomes, which file it goes into, and the index.
 * Pure: from names and shapes to a plan that the addon carries out.
 */

import path from 'node:path';

import { MlxkError } from '../errors.js';
import type {
  NativeByteSource,
  NativeConversionJob,
  NativeConversionPlan,
  NativeQuantization,
} from '../native.js';
import { parameterOrder } from './parameter-order.js';
import type { BlockScales } from './foreign-storage.js';
import type { Parameter } from './parameters.js';
import {
  Quantizer,
  type QuantizeSettings,
  type SourceQuantization,
  suffixOf,
} from './quantization.js';
import { CLASSES, NEVER_CAST } from './recorded-classes.js';
import type { Config } from './source.js';

/** mlx-lm's limit of one file, 5 GiB. */
const MAX_SHARD_BYTES = 5 * 2 ** 30;

export type FloatType = 'F16' | 'BF16' | 'F32';

export interface Changes {
  /** Type that floating-point numbers become; absent keeps each tensor's own. */
  readonly cast?: FloatType | undefined;
  /** The same for the towers beside that of the text. */
  readonly castOthers?: FloatType | undefined;
  /** Type that mxfp4, mxfp8 and nvfp4 are unpacked to. Default: bfloat16, as in mlx-lm. */
  readonly unpackTo?: FloatType | undefined;
  readonly quantize?: QuantizeSettings | undefined;
  readonly dequantize?: boolean | undefined;
}

export interface ConversionLayout {
  readonly plan: NativeConversionPlan;
  /** `model.safetensors.index.json`. */
  readonly index: Config;
  /** `quantization` of the new config.json; absent when the source's stays or there is none. */
  readonly quantization?: Config;
  /** Bytes of the tensors to be written. */
  readonly bytes: number;
}

interface Output {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** Numbers that the tensor stands for, in mlx-lm's count. */
  readonly parameters: number;
}

type Role = 'weight' | 'scales' | 'biases';

/** A job whose outputs are named; places are known once all are laid out. */
interface Draft {
  readonly job: Omit<NativeConversionJob, 'weightTo' | 'scalesTo' | 'biasesTo'>;
  readonly outputs: Partial<Record<Role, Output>>;
}

const TYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
};
const FLOATS: ReadonlySet<string> = new Set(['F16', 'BF16', 'F32']);
/** For classes that are not recorded: sums of routers, which lose experts when they are rounded. */
const USUALLY_NOT_CAST = /e_score_correction_bias|expert_bias/;

/** @param folder where the files are to be made */
export function layOut(
  parameters: readonly Parameter[],
  files: readonly string[],
  options: {
    readonly modelClass: string;
    readonly changes: Changes;
    readonly source: SourceQuantization;
    readonly folder: string;
    /** Modules that are not quantized, whatever the changes. */
    readonly dense?: readonly string[];
    readonly maxShardBytes?: number;
  },
): ConversionLayout {
  const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const order = parameterOrder(options.modelClass);
  const names = [...byName.keys()].sort(order);
  const { quantize } = options.changes;
  const paths = names.flatMap((name) =>
    name.endsWith('.weight') && byName.get(name)?.isOtherTower !== true ? [modulePath(name)] : [],
  );
  const quantizer =
    quantize === undefined
      ? undefined
      : new Quantizer(quantize, options.modelClass, { paths, dense: options.dense ?? [] });
  const drafts: Draft[] = [];
  for (const name of names) {
    const parameter = byName.get(name);
    if (parameter === undefined || isPartOfMatrix(name, byName, options.changes)) continue;
    drafts.push(draft(parameter, { ...options, byName, quantizer }));
  }
  const parents = new Set(names.map((name) => modulePath(modulePath(name))));
  const outputs = drafts
    .flatMap(({ outputs: made }) => Object.values(made))
    // mlx-lm counts modules without children only, so not the numbers that stand beside some.
    .map((made) => (parents.has(modulePath(made.name)) ? { ...made, parameters: 0 } : made))
    .sort((a, b) => order(a.name, b.name));
  const shards = shardsOf(outputs, options.maxShardBytes ?? MAX_SHARD_BYTES);
  return {
    plan: planOf(drafts, shards, files, options.folder),
    index: indexOf(shards),
    ...(quantizer !== undefined && { quantization: quantizer.config() }),
    bytes: sum(outputs.map(({ bytes }) => bytes)),
  };
}

/** Scales and biases of a packed matrix go with its weight when that is unpacked. */
function isPartOfMatrix(
  name: string,
  byName: ReadonlyMap<string, Parameter>,
  changes: Changes,
): boolean {
  if (!/\.(scales|biases)$/.test(name)) return false;
  const module = modulePath(name);
  const weight = byName.get(`${module}.weight`);
  return weight !== undefined && byName.has(`${module}.scales`) && unpacks(weight, changes);
}

/** Whether a packed matrix becomes numbers again. */
function unpacks({ isOtherTower }: Parameter, { dequantize, quantize }: Changes): boolean {
  return dequantize === true || (quantize !== undefined && isOtherTower !== true);
}

/** What decides what becomes of a parameter. */
interface Context {
  readonly byName: ReadonlyMap<string, Parameter>;
  readonly changes: Changes;
  readonly source: SourceQuantization;
  readonly quantizer: Quantizer | undefined;
  readonly modelClass: string;
}

function draft(parameter: Parameter, context: Context): Draft {
  const { byName, changes, quantizer, source, modelClass } = context;
  const module = modulePath(parameter.name);
  const isWeight = parameter.name === `${module}.weight`;
  const scales = isWeight ? byName.get(`${module}.scales`) : undefined;
  if (scales !== undefined && unpacks(parameter, changes)) {
    return unpacked(parameter, scales, context);
  }
  const isOther = parameter.isOtherTower === true;
  if (scales !== undefined && isOther) {
    const { shape } = parameter;
    quantizer?.keep(module, source.of(module, shape, scales.shape, scales.encoding));
  }
  const cast = isOther ? changes.castOthers : changes.cast;
  const type = castType(parameter, cast, modelClass);
  const isFloat = FLOATS.has(type);
  const isMatrix = isWeight && isFloat && !isOther;
  const to = isMatrix ? quantizer?.choose(module, parameter.shape) : undefined;
  const job = {
    ...(parameter.interleavedHeads !== undefined && parameter.shape.length === 1
      ? { rows: count(parameter.shape), columns: 1 }
      : size(parameter.shape)),
    weight: bytesOf(parameter),
    ...(parameter.add !== undefined && { add: parameter.add }),
    ...(parameter.times !== undefined && { times: parameter.times }),
    ...(parameter.blockScales !== undefined && {
      blockScales: nativeBlocks(parameter, parameter.blockScales),
    }),
    ...(parameter.transposed !== undefined && {
      transposed: { matrixRows: parameter.shape.at(-2) ?? 1, ...parameter.transposed },
    }),
    ...(isFloat && type !== storedType(parameter) && { cast: type as FloatType }),
    ...(parameter.interleavedHeads !== undefined && {
      interleavedHeads: parameter.interleavedHeads,
    }),
    ...(to !== undefined && { to }),
  };
  const outputs = outputsOf(parameter.name, module, parameter.shape, type, to);
  return { job, outputs: { ...outputs, ...packedCount(outputs, parameter, byName, source) } };
}

/** What stays packed stands for more numbers than it has words, and its scales stand for none. */
function packedCount(
  { weight }: Draft['outputs'],
  { name, shape }: Parameter,
  byName: ReadonlyMap<string, Parameter>,
  source: SourceQuantization,
): Draft['outputs'] {
  const module = modulePath(name);
  const scales = byName.get(`${module}.scales`);
  if (weight === undefined || scales === undefined || !byName.has(`${module}.weight`)) return {};
  if (/\.(scales|biases)$/.test(name)) return { weight: { ...weight, parameters: 0 } };
  if (name !== `${module}.weight`) return {};
  const { bits } = source.of(module, shape, scales.shape, scales.encoding);
  return { weight: { ...weight, parameters: (32 * count(shape)) / bits } };
}

/** A matrix that MLX quantized, as numbers again, and quantized anew where that is asked for. */
function unpacked(weight: Parameter, scales: Parameter, context: Context): Draft {
  const { byName, changes, quantizer, source, modelClass } = context;
  const module = modulePath(weight.name);
  if (byName.has(`${module}.global_scale`)) {
    throw new MlxkError(
      'not_implemented',
      `${module} has a scale of its tensor, which is not unpacked`,
      {
        reason: 'quantization_unsupported',
        detail: { tensor: module },
      },
    );
  }
  const from = source.of(module, weight.shape, scales.shape, scales.encoding);
  const biases = byName.get(`${module}.biases`);
  const shape = [...weight.shape.slice(0, -1), (scales.shape.at(-1) ?? 0) * from.groupSize];
  const affine = from.mode === 'affine';
  if (affine && biases === undefined) {
    throw new MlxkError('validation_error', `${module} has scales but no biases`, {
      reason: 'tensor_missing',
      detail: { tensor: `${module}.biases` },
    });
  }
  const type = affine ? castType(scales, changes.cast, modelClass) : (changes.unpackTo ?? 'BF16');
  const to = quantizer?.choose(module, shape);
  const job = {
    ...size(shape),
    weight: bytesOf(weight),
    scales: bytesOf(scales),
    ...(affine && biases !== undefined && { biases: bytesOf(biases) }),
    ...(affine && biases?.times !== undefined && { biasTimes: biases.times }),
    from,
    ...(type !== (affine ? scales.encoding : 'BF16') && { cast: type as FloatType }),
    ...(to !== undefined && { to }),
  };
  return { job, outputs: outputsOf(weight.name, module, shape, type, to) };
}

function outputsOf(
  name: string,
  module: string,
  shape: readonly number[],
  type: string,
  to: NativeQuantization | undefined,
): Draft['outputs'] {
  if (to === undefined) return { weight: output(name, type, shape) };
  const columns = shape.at(-1) ?? 0;
  const rows = shape.slice(0, -1);
  const packed = output(name, 'U32', [...rows, (columns * to.bits) / 32]);
  const affine = to.mode === 'affine';
  const groups = [...rows, columns / to.groupSize];
  const side = (part: string): Output => ({
    ...output(`${module}.${part}`, affine ? type : 'U8', groups),
    parameters: 0,
  });
  return {
    weight: { ...packed, parameters: count(shape) },
    scales: side('scales'),
    ...(affine && { biases: side('biases') }),
  };
}

function output(name: string, dtype: string, shape: readonly number[]): Output {
  const numbers = count(shape);
  return { name, dtype, shape, bytes: numbers * (TYPE_BYTES[dtype] ?? 0), parameters: numbers };
}

/** Type of a parameter after the cast; block formats of GGUF are numbers once they are read. */
function castType(parameter: Parameter, cast: FloatType | undefined, modelClass: string): string {
  if (parameter.blockScales !== undefined) return cast ?? 'BF16';
  const isBlock = TYPE_BYTES[parameter.encoding] === undefined;
  if (isBlock) return cast ?? 'F32';
  const casts = FLOATS.has(parameter.encoding) && !keepsType(parameter.name, modelClass);
  return casts ? (cast ?? parameter.encoding) : parameter.encoding;
}

function keepsType(name: string, modelClass: string): boolean {
  return CLASSES[modelClass] === undefined
    ? USUALLY_NOT_CAST.test(name)
    : NEVER_CAST[modelClass]?.includes(suffixOf(name)) === true;
}

/** Type of the numbers as they are read; float8 with scales is bfloat16 then, as in mlx-lm. */
function storedType({ encoding, blockScales }: Parameter): string {
  return blockScales === undefined ? encoding : 'BF16';
}

function nativeBlocks(
  { shape }: Parameter,
  blockScales: readonly BlockScales[],
): NonNullable<NativeConversionJob['blockScales']> {
  const [first] = blockScales;
  return {
    scales: {
      encoding: first?.scales.encoding ?? '',
      parts: blockScales.map(({ scales: { file, begin, bytes } }) => [file, begin, bytes]),
    },
    matrixRows: shape.at(-2) ?? 1,
    blockRows: first?.block[0] ?? 1,
    blockColumns: first?.block[1] ?? 1,
  };
}

function bytesOf(parameter: Parameter): NativeByteSource {
  return {
    encoding: parameter.encoding,
    parts: parameter.parts.map(({ file, begin, bytes }) => [file, begin, bytes]),
  };
}

/** A tensor as a matrix: all axes but the last are rows. */
function size(shape: readonly number[]): { rows: number; columns: number } {
  const columns = shape.at(-1) ?? 1;
  return { rows: count(shape.slice(0, -1)), columns };
}

/** Greedy in parameter order, as mlx-lm's `make_shards`. */
function shardsOf(outputs: readonly Output[], limit: number): Output[][] {
  const shards: Output[][] = [];
  let room = 0;
  for (const made of outputs) {
    const last = shards.at(-1);
    if (last === undefined || made.bytes > room) {
      shards.push([made]);
      room = limit - made.bytes;
    } else {
      last.push(made);
      room -= made.bytes;
    }
  }
  return shards;
}

function shardName(position: number, total: number): string {
  const digits = (n: number): string => String(n).padStart(5, '0');
  return total > 1
    ? `model-${digits(position + 1)}-of-${digits(total)}.safetensors`
    : 'model.safetensors';
}

function planOf(
  drafts: readonly Draft[],
  shards: readonly (readonly Output[])[],
  files: readonly string[],
  folder: string,
): NativeConversionPlan {
  const places = new Map<string, [number, number]>();
  for (const [shard, outputs] of shards.entries()) {
    for (const [tensor, { name }] of outputs.entries()) places.set(name, [shard, tensor]);
  }
  const placeOf = ({ name }: Output): [number, number] => places.get(name) ?? [-1, -1];
  const jobs = drafts.map(({ job, outputs: { weight, scales, biases } }) => ({
    ...job,
    weightTo: weight === undefined ? ([-1, -1] as [number, number]) : placeOf(weight),
    ...(scales !== undefined && { scalesTo: placeOf(scales) }),
    ...(biases !== undefined && { biasesTo: placeOf(biases) }),
  }));
  // Read in the order of the files, whatever the order of the outputs.
  const position = ({ weight: { parts } }: NativeConversionJob): readonly number[] =>
    parts[0] ?? [];
  jobs.sort((a, b) => {
    const [fileA = 0, beginA = 0] = position(a);
    const [fileB = 0, beginB = 0] = position(b);
    return fileA - fileB || beginA - beginB;
  });
  return {
    files: [...files],
    shards: shards.map((outputs, position_) => ({
      path: path.join(folder, shardName(position_, shards.length)),
      tensors: outputs.map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] })),
    })),
    jobs,
  };
}

/** As mlx-lm's `save_model` writes it: sizes of tensors, names sorted by code point. */
function indexOf(shards: readonly (readonly Output[])[]): Config {
  const entries = shards.flatMap((outputs, position) =>
    outputs.map(({ name }): [string, string] => [name, shardName(position, shards.length)]),
  );
  const all = shards.flat();
  return {
    metadata: {
      total_size: sum(all.map(({ bytes }) => bytes)),
      total_parameters: sum(all.map(({ parameters }) => parameters)),
    },
    weight_map: Object.fromEntries(
      entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    ),
  };
}

function modulePath(name: string): string {
  return name.slice(0, Math.max(0, name.lastIndexOf('.')));
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
