/**
 * Copies of a model folder with one thing changed, for tests of what loading refuses. Reads and writes well-formed
 * files only; what a file says may be as wrong as the test wants.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { temporaryFolder } from '../helpers/temporary.js';

export type Config = Record<string, unknown>;

export interface Tensor {
  dtype: string;
  shape: number[];
  data: Buffer;
}

export type Tensors = Map<string, Tensor>;

/** What to change; both may edit in place. */
export interface Changes {
  config?: (config: Config) => void;
  tensors?: (tensors: Tensors) => void;
}

/** A new folder with config.json and the weights of `good`, which has one file of weights, after the changes. */
export function alteredModel(good: string, { config, tensors }: Changes): string {
  const folder = temporaryFolder();
  const settings = JSON.parse(readFileSync(path.join(good, 'config.json'), 'utf8')) as Config;
  config?.(settings);
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(settings));
  const weights = readSafetensors(path.join(good, 'model.safetensors'));
  tensors?.(weights);
  writeFileSync(path.join(folder, 'model.safetensors'), toSafetensors(weights));
  return folder;
}

/** The tensor of that name; a test that changes one that is not there would test nothing. */
export function tensorNamed(tensors: Tensors, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`the good model has no tensor ${name}`);
  return tensor;
}

export function readSafetensors(file: string): Tensors {
  const bytes = readFileSync(file);
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, headerEnd)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors: Tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = entry.data_offsets.map((offset) => headerEnd + offset);
    const { dtype, shape } = entry;
    tensors.set(name, { dtype, shape, data: Buffer.from(bytes.subarray(begin, end)) });
  }
  return tensors;
}

function toSafetensors(tensors: Tensors): Buffer {
  let offset = 0;
  const header: Record<string, object> = {};
  for (const [name, { dtype, shape, data }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += data.length)] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...[...tensors.values()].map(({ data }) => data)]);
}
