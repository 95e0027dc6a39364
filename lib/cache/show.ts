/**
 * `show`: one model with its files, its configuration or the usual facts of it.
 */

import path from 'node:path';

import { decimalBytes } from '../format.js';
import { check, checkOptions, FLAG, MEMBERS, TEXT } from './arguments.js';
import type { CacheEnvironment } from './layout.js';
import { locate, type LocatedModel } from './locate.js';
import { folderOf, modelEntry, quantizationOf } from './model-entry.js';
import { ModelFolder } from './model-folder.js';
import type { ModelEntry } from './types.js';

export type FileType = 'config' | 'weights' | 'tokenizer' | 'readme' | 'other';

export interface ShownFile {
  /** Name without folders. */
  readonly name: string;
  /** Decimal units, such as `1.2GB`. */
  readonly size: string;
  readonly type: FileType;
}

/** What most people want to know of a configuration; members that it lacks are absent. */
export interface ModelMetadata {
  readonly modelType?: string;
  readonly architecture?: string;
  /** Such as `4bit`; only from `quantization_config`. */
  readonly quantization?: string;
  readonly contextLength?: number;
  readonly vocabSize?: number;
  readonly hiddenSize?: number;
  readonly numAttentionHeads?: number;
  readonly numHiddenLayers?: number;
}

export interface ShownModel {
  readonly model: ModelEntry;
  /** Fields of the sentinel of a managed workspace. */
  readonly workspaceMetadata: Readonly<Record<string, unknown>> | null;
  /** `null` where the configuration has none of it, or when files or configuration were asked for. */
  readonly metadata: ModelMetadata | null;
  readonly files?: readonly ShownFile[];
  readonly config?: Readonly<Record<string, unknown>> | null;
  /** The content hash was pinned anew. */
  readonly hashUpdated?: boolean;
}

export interface ShowOptions {
  /** List the files instead of the metadata; wins over `config`. */
  readonly files?: boolean | undefined;
  /** Give config.json instead of the metadata. */
  readonly config?: boolean | undefined;
  /** Pin the content hash of a managed workspace anew; nothing is done to others. */
  readonly recalcHash?: boolean | undefined;
  readonly env?: CacheEnvironment;
}

/**
 * Tells everything about one model.
 *
 * @throws TypeError naming a wrong argument; MlxkError `model_not_found`, or `ambiguous_match` with `detail.matches`.
 *
 * @example
 * const { model, metadata } = await cache.show('builtin')
 */
export async function show(spec: string, options: ShowOptions = {}): Promise<ShownModel> {
  check('spec', spec, TEXT);
  checkOptions(options, { files: FLAG, config: FLAG, recalcHash: FLAG, env: MEMBERS });
  const located = await locate(spec, options.env);
  const hashUpdated = options.recalcHash === true && (await pinHash(located));
  const files = new ModelFolder(folderOf(located));
  const quantization = quantizationOf(files);
  const model = {
    ...(await modelEntry(located)),
    ...(quantization !== undefined && { quantization }),
  };
  const base = {
    model,
    workspaceMetadata: await sentinelOf(located),
    metadata: null,
    ...(hashUpdated && { hashUpdated }),
  };
  if (options.files === true) return { ...base, files: shownFiles(files) };
  const config = files.json('config.json');
  const members = config.state === 'object' ? config.value : null;
  if (options.config === true) return { ...base, config: members };
  return { ...base, metadata: members === null ? null : metadataOf(members) };
}

async function pinHash(located: LocatedModel): Promise<boolean> {
  if (located.kind !== 'workspace') return false;
  const { pinContentHash } = await import('../workspace/content-hash.js');
  return (await pinContentHash(located.folder)) !== undefined;
}

async function sentinelOf(
  located: LocatedModel,
): Promise<Readonly<Record<string, unknown>> | null> {
  if (located.kind !== 'workspace') return null;
  const { workspaceMetadata } = await import('../workspace/facts.js');
  return await workspaceMetadata(located.folder);
}

function shownFiles({ files }: ModelFolder): ShownFile[] {
  return files.map(({ name, size }) => ({
    name: path.posix.basename(name),
    size: decimalBytes(Math.max(0, size)),
    type: fileType(path.posix.basename(name)),
  }));
}

function fileType(name: string): FileType {
  if (name === 'config.json') return 'config';
  if (/\.(safetensors|bin|gguf)$/.test(name)) return 'weights';
  if (name.includes('tokenizer')) return 'tokenizer';
  if (name.endsWith('.json')) return 'config';
  return name === 'README.md' ? 'readme' : 'other';
}

function metadataOf(config: Readonly<Record<string, unknown>>): ModelMetadata | null {
  const { architectures, quantization_config: quantized } = config;
  const bits =
    typeof quantized === 'object' && quantized !== null && 'bits' in quantized
      ? quantized.bits
      : undefined;
  const architecture: unknown = Array.isArray(architectures) ? architectures[0] : undefined;
  const metadata = {
    ...text('modelType', config.model_type),
    ...text('architecture', architecture),
    ...(typeof bits === 'number' && { quantization: `${bits}bit` }),
    ...number('contextLength', config.max_position_embeddings),
    ...number('vocabSize', config.vocab_size),
    ...number('hiddenSize', config.hidden_size),
    ...number('numAttentionHeads', config.num_attention_heads),
    ...number('numHiddenLayers', config.num_hidden_layers),
  };
  return Object.keys(metadata).length === 0 ? null : metadata;
}

function text(key: string, value: unknown): Record<string, string> {
  return typeof value === 'string' ? { [key]: value } : {};
}

function number(key: string, value: unknown): Record<string, number> {
  return typeof value === 'number' ? { [key]: value } : {};
}
