/**
 * The weights of a model before conversion: which tensors there are, where their bytes lie, and its config.json with
 * every number as it was written. Headers are read by the addon's strict reader; no tensor is read here.
 */

import { readdir } from 'node:fs/promises';
import path from 'node:path';

import { parse } from 'lossless-json';

import { addon } from '../binding.js';
import { isObject } from '../cache/model-folder.js';
import { fromNative, MlxkError } from '../errors.js';
import { readOptionalText } from '../json-file.js';
import type { NativeTensor } from '../native.js';
import type { BlockScales } from './foreign-storage.js';

/** A stretch of a source file that holds one tensor. */
export interface SourceTensor {
  readonly name: string;
  /** Type as safetensors spells it, or a block format of GGUF. */
  readonly encoding: string;
  readonly shape: readonly number[];
  /** Position in `Source.files`. */
  readonly file: number;
  readonly begin: number;
  readonly bytes: number;
  /** Heads of a rotated projection whose rows lie in llama.cpp's order. */
  readonly interleavedHeads?: number;
  /** The bytes hold a transposed matrix of `width` columns; this one is made of those from `first` on. */
  readonly transposed?: { readonly width: number; readonly first: number };
  /** Added to every number. */
  readonly add?: number;
  /** Every number is multiplied by it. */
  readonly times?: number;
  /** Of float8. */
  readonly blockScales?: BlockScales;
}

/** JSON object whose numbers are `LosslessNumber`s. */
export type Config = Record<string, unknown>;

export interface Source {
  readonly files: readonly string[];
  readonly tensors: readonly SourceTensor[];
  readonly config: Config;
  /** Files that the converted model needs besides those that lie beside the source. */
  readonly extraFiles?: Readonly<Record<string, string>> | undefined;
}

/** Safetensors of one or many files, as mlx-lm and transformers write them. */
export async function readCheckpoint(folder: string): Promise<Source> {
  const config = await readConfig(folder);
  const names = await shardNames(folder);
  const files = names.map((name) => path.join(folder, name));
  const tensors: SourceTensor[] = [];
  const seen = new Map<string, string>();
  for (const [file, shard] of files.entries()) {
    for (const { dtype, ...tensor } of await readHeader(shard)) {
      const earlier = seen.get(tensor.name);
      if (earlier !== undefined) throw duplicate(tensor.name, earlier, shard);
      seen.set(tensor.name, shard);
      tensors.push({ ...tensor, encoding: dtype, file });
    }
  }
  return { files, tensors, config };
}

/** Tensors of one safetensors file by position. @throws MlxkError as the strict reader has it. */
export async function readHeader(file: string): Promise<NativeTensor[]> {
  try {
    return await addon().readSafetensors(file);
  } catch (error) {
    throw fromNative(error);
  }
}

/** config.json with the eos ids of generation_config.json, as mlx-lm reads it. */
async function readConfig(folder: string): Promise<Config> {
  const config = await readLossless(folder, 'config.json');
  if (config === undefined) {
    throw new MlxkError(
      'validation_error',
      `${folder} has no config.json, so it is no model folder`,
      {
        reason: 'config_missing',
        detail: { folder },
      },
    );
  }
  const generation = await readLossless(folder, 'generation_config.json').catch(() => undefined);
  const eos = generation?.['eos_token_id'];
  return eos === undefined || eos === null ? config : { ...config, eos_token_id: eos };
}

async function readLossless(folder: string, name: string): Promise<Config | undefined> {
  const text = await readOptionalText(folder, name);
  if (text === undefined) return undefined;
  const file = path.join(folder, name);
  let value: unknown;
  try {
    value = parse(text.replace(/^\ufeff/, ''));
  } catch (cause) {
    throw invalid(file, `is not JSON: ${(cause as Error).message}`);
  }
  if (!isObject(value)) throw invalid(file, 'has no JSON object at its top');
  return { ...value };
}

/** The names mlx-lm loads; others, such as consolidated.safetensors, repeat the weights in another layout. */
async function shardNames(folder: string): Promise<string[]> {
  const all = await readdir(folder);
  const names = all.filter((name) => /^model.*\.safetensors$/.test(name)).sort();
  if (names.length > 0) return names;
  const other = all.find((name) => /\.(safetensors|bin|pth|pt|npz)$/.test(name));
  const what =
    other === undefined
      ? 'no weights'
      : `weights that are not converted (${other}), and none named model*.safetensors`;
  throw new MlxkError(
    other === undefined ? 'validation_error' : 'not_implemented',
    `${folder} has ${what}`,
    { reason: 'weights_missing', detail: { folder } },
  );
}

function duplicate(name: string, first: string, second: string): MlxkError {
  const files = `${path.basename(first)} and ${path.basename(second)}`;
  return new MlxkError('validation_error', `Duplicate tensor "${name}" in ${files}`, {
    reason: 'tensor_duplicate',
    detail: { tensor: name },
  });
}

function invalid(file: string, why: string): MlxkError {
  return new MlxkError('validation_error', `${file} ${why}`, {
    reason: 'file_invalid',
    detail: { file },
  });
}
