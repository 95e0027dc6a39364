/**
 * What is wrong with a workspace before it is published: all of it at once, not only the first. Needs no network.
 */

import path from 'node:path';

import { isObject, ModelFolder } from '../cache/model-folder.js';

const LFS_POINTER = 'version https://git-lfs.github.com/spec/v1';
const LFS_POINTER_BYTES = 200;
const WEIGHTS = /\.(safetensors|bin|gguf)$/;
const SHARD = /^model-(\d{5})-of-(\d{5})\.safetensors$/;
const INDEXES = ['model.safetensors.index.json', 'pytorch_model.bin.index.json'];
const PARTIAL = /\.(partial|tmp|incomplete)$|partial/;

interface Anomaly {
  readonly severity: 'error' | 'warn';
  readonly code:
    | 'config_missing'
    | 'config_invalid_json'
    | 'no_weights_found'
    | 'empty_weight_file'
    | 'lfs_pointer_detected'
    | 'index_parse_error'
    | 'index_missing_shard'
    | 'partial_marker';
  readonly message: string;
  readonly path?: string;
  readonly missing?: readonly string[];
}

export interface WorkspaceHealth {
  readonly filesCount: number;
  readonly totalBytes: number;
  readonly config: { readonly exists: boolean; readonly validJson: boolean };
  readonly weights: {
    readonly count: number;
    /** `safetensors`, `bin`, `gguf`. */
    readonly formats: readonly string[];
    readonly hasIndex: boolean;
    /** Shards of the index that are not there. */
    readonly missing: readonly string[];
    /** Whether a numbered set is whole; `null` when the names are of no such set. */
    readonly patternComplete: boolean | null;
  };
  readonly anomalies: readonly Anomaly[];
  /** No anomaly is an error. */
  readonly healthy: boolean;
}

/** Looks at a folder; never throws for what it holds. */
export function workspaceHealth(folder: string): WorkspaceHealth {
  const files = new ModelFolder(folder);
  const weights = files.files.filter(({ name }) => WEIGHTS.test(name));
  const config = files.json('config.json');
  const index = indexOf(files);
  const anomalies: Anomaly[] = [];
  const error = (code: Anomaly['code'], message: string, more: Partial<Anomaly> = {}): void => {
    anomalies.push({ severity: 'error', code, message, ...more });
  };

  if (config.state === 'missing') error('config_missing', 'config.json is missing');
  else if (config.state !== 'object') {
    error('config_invalid_json', 'config.json is no JSON object', { path: 'config.json' });
  }
  if (weights.length === 0) error('no_weights_found', 'there are no model weights');
  for (const { name, size } of weights) {
    if (size <= 0) error('empty_weight_file', `${name} is empty`, { path: name });
  }
  for (const { name, size } of files.files) {
    if (size > 0 && size < LFS_POINTER_BYTES && isPointer(files, name)) {
      error('lfs_pointer_detected', `${name} is a Git LFS pointer, not the file`, { path: name });
    }
  }
  if (index?.shards === undefined && index !== undefined) {
    error('index_parse_error', `${index.name} cannot be read`, { path: index.name });
  }
  const missing = index?.shards?.filter((name) => !files.has(name)) ?? [];
  if (missing.length > 0) {
    const message = `${missing.length} shard(s) of the index are missing`;
    error('index_missing_shard', message, { path: index?.name ?? '', missing });
  }
  for (const { name } of files.files) {
    if (!PARTIAL.test(path.posix.basename(name))) continue;
    const message = `${name} looks like an unfinished download`;
    anomalies.push({ severity: 'warn', code: 'partial_marker', message, path: name });
  }
  return {
    filesCount: files.files.length,
    totalBytes: files.sizeBytes,
    config: { exists: config.state !== 'missing', validJson: config.state === 'object' },
    weights: {
      count: weights.length,
      formats: [...new Set(weights.map(({ name }) => path.extname(name).slice(1)))].sort(),
      hasIndex: index !== undefined,
      missing,
      patternComplete: patternComplete(weights.map(({ name }) => name)),
    },
    anomalies,
    healthy: anomalies.every(({ severity }) => severity !== 'error'),
  };
}

function isPointer(files: ModelFolder, name: string): boolean {
  return files.start(name, LFS_POINTER.length).toString('latin1') === LFS_POINTER;
}

/** The index that is there, with the shards it names unless it makes no sense. */
function indexOf(files: ModelFolder): { name: string; shards: string[] | undefined } | undefined {
  const name = INDEXES.find((candidate) => files.has(candidate));
  if (name === undefined) return undefined;
  const map = files.members(name).weight_map;
  const shards = isObject(map) ? [...new Set(Object.values(map))] : [];
  const sound = shards.length > 0 && shards.every((shard) => typeof shard === 'string');
  return { name, shards: sound ? shards.sort() : undefined };
}

function patternComplete(names: readonly string[]): boolean | null {
  const numbers = names.flatMap((name) => {
    const match = SHARD.exec(name);
    return match === null ? [] : [{ number: Number(match[1]), of: Number(match[2]) }];
  });
  const [first] = numbers;
  if (first === undefined) return null;
  const present = new Set(numbers.map(({ number }) => number));
  return numbers.every(({ of }) => of === first.of) && present.size === first.of;
}
