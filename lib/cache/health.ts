/**
 * Whether the files of a model are whole: the one answer for `list`, `show`, `health`, `pull`, `clone` and `convert`.
 * The first rule that is broken gives the reason. Integrity says nothing about whether a model runs: GGUF and PyTorch
 * checkpoints can be healthy.
 */

import path from 'node:path';

import { hasVision } from './classify.js';
import { statsOf } from './layout.js';
import { type FolderFile, isObject, type JsonFile, ModelFolder } from './model-folder.js';
import type { Health } from './types.js';

const LFS_POINTER = 'version https://git-lfs.github.com/spec/v1';
/** A pointer file is shorter than this, and says what it is within its first bytes. */
const LFS_POINTER_BYTES = 200;
const LFS_MARK_BYTES = 100;

const SHARD = /^model-(\d{5})-of-(\d{5})\.safetensors$/;
const WEIGHTS = /\.(safetensors|bin|gguf)$/;
const PARTIAL = /\.(partial|tmp)$|partial/;

/** Checks the files of a snapshot or workspace. Reads only; never throws for what a folder holds. */
export function health(folder: string): Health {
  if (!(statsOf(folder)?.isDirectory() ?? false)) {
    return unhealthy('Model path does not exist');
  }
  return healthOf(new ModelFolder(folder));
}

/** `health` of a folder that has been listed already. */
export function healthOf(model: ModelFolder): Health {
  const problem = configProblem(model);
  if (problem !== undefined) return unhealthy(problem);
  const index = indexOf(model);
  const broken =
    (index === undefined ? singleProblem(model) : indexedProblem(model, index)) ??
    auxiliaryProblem(model);
  if (broken !== undefined) return unhealthy(broken);
  return {
    healthy: true,
    reason: index === undefined ? 'Model is healthy' : 'Multi-file model complete',
  };
}

function unhealthy(reason: string): Health {
  return { healthy: false, reason };
}

function configProblem(model: ModelFolder): string | undefined {
  const config = model.json('config.json');
  switch (config.state) {
    case 'missing':
      return 'config.json missing';
    case 'unreadable':
    case 'not-json':
      return 'config.json contains invalid JSON';
    case 'no-object':
      return 'config.json is empty or invalid';
    case 'object':
      return Object.keys(config.value).length === 0 ? 'config.json is empty or invalid' : undefined;
  }
}

/** The index that has to be fulfilled: an index present beats whatever the names of the shards say. */
function indexOf(model: ModelFolder): JsonFile | undefined {
  const any = (pattern: RegExp): boolean => model.files.some(({ name }) => pattern.test(name));
  const safetensors = model.json('model.safetensors.index.json');
  // Without any weights the index still tells which ones are missing.
  if (safetensors.state !== 'missing' && (any(/\.safetensors$/) || !any(WEIGHTS))) {
    return safetensors;
  }
  const pytorch = model.json('pytorch_model.bin.index.json');
  if (pytorch.state !== 'missing' && !any(/\.safetensors$/) && any(/\.bin$/)) return pytorch;
  return undefined;
}

function indexedProblem(model: ModelFolder, index: JsonFile): string | undefined {
  if (index.state !== 'object') return 'Invalid index file';
  const map = index.value.weight_map;
  const invalid = 'Empty or invalid weight_map in index';
  if (!isObject(map)) return invalid;
  const shards = [...new Set(Object.values(map))].sort();
  if (shards.length === 0 || !shards.every((shard) => typeof shard === 'string')) return invalid;

  const missing = shards.filter((shard) => !model.has(shard));
  if (missing.length > 0) {
    const unreferenced = model.files.filter(
      ({ name }) => /^[^/]+\.safetensors$/.test(name) && !shards.includes(name),
    );
    if (unreferenced.length === 0) return `Missing weight shards: ${missing.join(', ')}`;
    return (
      'Index/shard mismatch (mlx-vlm #624): the index names other files than those present; ' +
      'mend a workspace copy with "mlxk convert <source> <target> --repair-index"'
    );
  }
  const files = shards.flatMap((shard) => model.file(shard) ?? []);
  return listed('Empty weight shards', files.filter(isEmpty)) ?? pointerProblem(model, files);
}

function singleProblem(model: ModelFolder): string | undefined {
  const all = model.files.filter(({ name, size }) => WEIGHTS.test(name) && size >= 0);
  const top = all.filter(({ name }) => !name.includes('/'));
  const weights = top.length > 0 ? top : all;
  if (weights.length === 0) return 'No model weights found';

  const shards = weights.filter(({ name }) => SHARD.test(path.posix.basename(name)));
  const partial = model.files.some(({ name }) => PARTIAL.test(path.posix.basename(name)));
  return (
    shardProblem(shards) ??
    (partial ? 'Partial download marker detected' : undefined) ??
    listed('Empty weight files', weights.filter(isEmpty)) ??
    (shards.length > 0 ? 'Safetensors index missing for sharded model' : undefined) ??
    pointerProblem(model, model.files)
  );
}

/** What the names `model-00001-of-00003.safetensors` tell of themselves. */
function shardProblem(shards: readonly FolderFile[]): string | undefined {
  if (shards.length === 0) return undefined;
  const numbers = shards.map(({ name }) => {
    const [, number = '', total = ''] = SHARD.exec(path.posix.basename(name)) ?? [];
    return { number: Number(number), total: Number(total) };
  });
  const total = numbers[0]?.total ?? 0;
  if (numbers.some((entry) => entry.total !== total)) return 'Inconsistent shard totals detected';
  const present = new Set(numbers.map(({ number }) => number).filter((n) => n >= 1 && n <= total));
  if (present.size < total) return `Missing shards by pattern: ${present.size}/${total} present`;
  return listed('Empty shards', shards.filter(isEmpty));
}

function pointerProblem(model: ModelFolder, files: readonly FolderFile[]): string | undefined {
  const pointers = files.filter(
    ({ name, size }) =>
      size > 0 &&
      size < LFS_POINTER_BYTES &&
      model.start(name, LFS_MARK_BYTES).includes(LFS_POINTER),
  );
  return listed('LFS pointers instead of files', pointers);
}

/** What a model needs besides weights, as far as its files ask for it. */
function auxiliaryProblem(model: ModelFolder): string | undefined {
  if (hasVision(model)) {
    const names = ['preprocessor_config.json', 'processor_config.json'];
    const present = names.filter((name) => model.has(name));
    if (present.length === 0) return `Vision model missing ${names.join(' or ')}`;
    for (const name of present) {
      const problem = objectProblem(model, name);
      if (problem !== undefined) return problem;
    }
  }
  if (!model.has('tokenizer_config.json')) return undefined;
  const { state } = model.json('tokenizer_config.json');
  if (state === 'no-object') return 'tokenizer_config.json invalid';
  if (state !== 'object') return 'tokenizer_config.json contains invalid JSON';
  return model.has('tokenizer.json')
    ? undefined
    : 'tokenizer_config.json present but tokenizer.json missing';
}

function objectProblem(model: ModelFolder, name: string): string | undefined {
  const { state } = model.json(name);
  if (state === 'object') return undefined;
  return state === 'no-object' ? `${name} invalid` : `${name} invalid JSON`;
}

function isEmpty({ size }: FolderFile): boolean {
  return size === 0;
}

function listed(what: string, files: readonly FolderFile[]): string | undefined {
  return files.length === 0
    ? undefined
    : `${what}: ${files.map(({ name }) => path.posix.basename(name)).join(', ')}`;
}
