/**
 * Converts a model folder into a new workspace: the operation behind `mlxk convert` and `cache.convert`. The new
 * folder appears whole or not at all; the source is only read.
 */

import { readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { addon } from '../binding.js';
import { check, TEXT } from '../cache/arguments.js';
import { health } from '../cache/health.js';
import { type CacheEnvironment } from '../cache/layout.js';
import { fromNative, MlxkError } from '../errors.js';
import { typedFileError } from '../file-system-error.js';
import { ggufFileOf, readGgufSource } from '../gguf/source.js';
import { pinContentHash } from '../workspace/content-hash.js';
import { copyFiles, type FileToCopy, filesToCopy } from '../workspace/copy-files.js';
import { INDEX_NAME, rebuiltIndex } from '../workspace/repair-index.js';
import { Sentinel } from '../workspace/sentinel.js';
import { makeFolder, requireSpace } from '../workspace/staging.js';
import { newConfig, pythonJson } from './config-file.js';
import { modelCard } from './model-card.js';
import {
  type ConvertOptions,
  type ConvertSettings,
  DTYPES,
  parseConvertOptions,
} from './options.js';
import { denseModules, parametersOf } from './parameters.js';
import { type ConversionLayout, type FloatType, layOut } from './plan.js';
import { convertPaths } from './paths.js';
import { SourceQuantization } from './quantization.js';
import { routeOf } from './route.js';
import { type Config, readCheckpoint, readHeader, type Source } from './source.js';
import { underBothNames, withHead } from './text-tower.js';

export interface ConvertResult {
  /** Absolute path of the source. */
  readonly source: string;
  /** Absolute path of the new workspace. */
  readonly target: string;
  readonly mode: ConvertSettings['mode'];
  readonly bits?: number;
  readonly groupSize?: number;
  readonly quantization?: ConvertSettings['quantize'];
  /** Absent when the check was skipped. */
  readonly health?: { readonly healthy: boolean; readonly reason: string };
  readonly message: string;
  /** What the user should know although it worked. */
  readonly warning?: string;
  /** `sha256:…`, pinned in the workspace; `null` when it cannot be computed. */
  readonly contentHash: string | null;
}

/** Files that hold weights in some format: they are made anew, not copied. */
const WEIGHTS =
  /\.(safetensors|bin|pth?|gguf|onnx|h5|msgpack|ckpt|npz)$|\.(safetensors|bin)\.index\.json$/;

/**
 * Makes a new workspace from a model folder.
 *
 * @param source a folder with config.json and weights, a GGUF file or a folder with one, or the name of a workspace in
 * the workspace home
 * @param target a folder that does not exist yet; `repairIndex` also takes an empty one
 * @throws TypeError or RangeError for a wrong option; MlxkError `validation_error` for a source or target that will
 * not do, `not_implemented` and `unsupported_multimodal` for models that are not converted, `internal_error` when the
 * disk is full or fails, `permission_denied`; the signal's reason when aborted. Nothing is left behind then.
 *
 * @example
 * await convert('./Qwen3-0.6B', './Qwen3-0.6B-4bit', { quantize: 4 })
 */
export async function convert(
  source: string,
  target: string,
  options: ConvertOptions,
  env: CacheEnvironment = process.env,
): Promise<ConvertResult> {
  check('source', source, TEXT);
  check('target', target, TEXT);
  const settings = parseConvertOptions(options);
  const paths = await convertPaths(source, target, settings.mode === 'repair-index', env);
  settings.signal?.throwIfAborted();
  const make = settings.mode === 'repair-index' ? repairIndex : convertWeights;
  const made = await make(paths.source, paths.target, settings).catch((error: unknown) => {
    throw typedFileError(error);
  });
  const { quantize } = settings;
  return {
    source: paths.source,
    target: paths.target,
    mode: settings.mode,
    ...(quantize !== undefined && {
      bits: quantize.bits,
      groupSize: quantize.groupSize,
      quantization: quantize,
    }),
    ...made,
    ...(!settings.skipHealth && { health: health(paths.target) }),
  };
}

type Made = Pick<ConvertResult, 'message' | 'warning' | 'contentHash'>;

async function repairIndex(
  source: string,
  target: string,
  settings: ConvertSettings,
): Promise<Made> {
  const index = await rebuiltIndex(source, async (file) =>
    (await readHeader(file)).map(({ name }) => name),
  );
  const files = (await filesToCopy(source)).filter(({ name }) => name !== INDEX_NAME);
  const totalBytes = bytesOf(files);
  let contentHash: string | null = null;
  await requireSpace(target, totalBytes);
  await makeFolder(target, async (folder) => {
    let doneBytes = 0;
    await copyFiles(files, folder, {
      signal: settings.signal,
      onBytes: (bytes) => {
        doneBytes += bytes;
        settings.onProgress?.({ doneBytes, totalBytes });
      },
    });
    if (index !== undefined) {
      await writeFile(path.join(folder, INDEX_NAME), `${JSON.stringify(index, null, 2)}\n`);
    }
    contentHash = await manage(source, folder, settings);
  });
  const shards = new Set(Object.values(index?.weight_map ?? {})).size;
  const message =
    index === undefined
      ? 'Single-file model, no index needed'
      : `Rebuilt the index: ${Object.keys(index.weight_map).length} tensors in ${shards} files`;
  return { message, contentHash };
}

async function convertWeights(
  folder: string,
  target: string,
  settings: ConvertSettings,
): Promise<Made> {
  const gguf = await ggufFileOf(folder);
  const source = gguf === undefined ? await readCheckpoint(folder) : await readGgufSource(gguf);
  const route = routeOf(source.config, `convert --${settings.mode}`);
  const quantized = new SourceQuantization(source.config);
  if (settings.mode === 'dequantize' && !quantized.present) {
    throw new MlxkError('validation_error', `${folder} is not quantized`, {
      reason: 'not_quantized',
      detail: { folder },
    });
  }
  const found = parametersOf(source.tensors, source.config, route);
  const wantsHead = route.isTower && route.modelClass === 'gemma3';
  const parameters = wantsHead && settings.quantize !== undefined ? withHead(found) : found;
  const cast = settings.dtype ?? statedDtype(source.config);
  const { quantize } = settings;
  const changes = {
    cast,
    castOthers: settings.dtype,
    unpackTo: settings.dtype,
    quantize,
    dequantize: settings.mode === 'dequantize',
  };
  const files = await companionsOf(folder);
  const layoutFor = (out: string): ConversionLayout =>
    layOut(parameters, source.files, {
      modelClass: route.modelClass,
      changes,
      source: quantized,
      folder: out,
      dense: denseModules(source.config, route.modelClass),
    });

  await requireSpace(target, layoutFor(target).bytes + bytesOf(files));
  let contentHash: string | null = null;
  await makeFolder(target, async (out) => {
    const layout = layoutFor(out);
    await runPlan(layout, settings);
    await copyFiles(files, out, { signal: settings.signal });
    const stated =
      settings.mode === 'dequantize' ? null : (layout.quantization ?? quantized.restated);
    const hasOthers = found.some(({ isOtherTower }) => isOtherTower === true);
    const quantization = stated && hasOthers ? underBothNames(stated, route.modelClass) : stated;
    const config = newConfig(source.config, quantization, { isMultimodal: route.isTower });
    await writeText(out, 'config.json', pythonJson(config));
    await writeText(out, INDEX_NAME, pythonJson(layout.index));
    for (const [name, text] of Object.entries(source.extraFiles ?? {})) {
      await writeText(out, name, text);
    }
    await writeText(out, 'README.md', await cardOf(folder, route.isTower));
    if (!settings.skipHealth) await checkModel(out);
    contentHash = await manage(folder, out, settings);
  });
  const warning = coarser(quantize?.bits, quantized.bits);
  return {
    message: done(settings, source),
    ...(warning !== undefined && { warning }),
    contentHash,
  };
}

/** What does not load is not kept: a source may have a layout of its own, or lack something. */
async function checkModel(folder: string): Promise<void> {
  try {
    await addon().checkModel(folder);
  } catch (error) {
    throw fromNative(error);
  }
}

/** The addon makes the weight files; an abort ends it between two steps. */
async function runPlan(layout: ConversionLayout, settings: ConvertSettings): Promise<void> {
  const { signal, onProgress } = settings;
  signal?.throwIfAborted();
  let failed: Error | undefined;
  const work = addon().convert(JSON.stringify(layout.plan), (doneBytes, totalBytes) => {
    try {
      onProgress?.({ doneBytes, totalBytes });
    } catch (error) {
      failed ??= fromNative(error);
      work.cancel();
    }
  });
  const cancel = (): void => {
    work.cancel();
  };
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    await work.promise;
    // The last progress may come together with the end, and what it set off still counts.
    signal?.throwIfAborted();
    if (failed !== undefined) throw failed;
  } catch (error) {
    signal?.throwIfAborted();
    throw failed ?? fromNative(error);
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

/** Writes the sentinel and pins the hash. */
async function manage(
  source: string,
  folder: string,
  { mode, quantize }: ConvertSettings,
): Promise<string | null> {
  const earlier = await Sentinel.read(source);
  const sentinel = Sentinel.create({
    operation: 'convert',
    source_repo: earlier?.sourceRepo ?? path.basename(source),
    source_revision: earlier?.sourceRevision ?? null,
    mode,
    ...(quantize !== undefined && {
      quantization: { bits: quantize.bits, group_size: quantize.groupSize, mode: quantize.mode },
    }),
  });
  await sentinel.write(folder);
  return (await pinContentHash(folder)) ?? null;
}

function statedDtype(config: Config): FloatType | undefined {
  const text = config['text_config'];
  const nested = typeof text === 'object' && text !== null ? (text as Config)['dtype'] : undefined;
  const stated = config['torch_dtype'] ?? nested;
  return Object.entries(DTYPES).find(([name]) => name === stated)?.[1];
}

/** What is copied as it is; a file alone has none. */
async function companionsOf(source: string): Promise<FileToCopy[]> {
  if ((await stat(source)).isFile()) return [];
  const files = await filesToCopy(source);
  return files.filter(
    ({ name }) => name !== 'config.json' && name !== 'README.md' && !WEIGHTS.test(name),
  );
}

async function cardOf(source: string, isMultimodal: boolean): Promise<string> {
  const file = path.join(source, 'README.md');
  const exists = (await stat(file).catch(() => undefined))?.isFile() === true;
  const origin = (await Sentinel.read(source))?.sourceRepo ?? null;
  return modelCard(
    exists ? await readFile(file, 'utf8') : undefined,
    origin?.includes('/') === true ? origin : null,
    isMultimodal ? 'image-text-to-text' : 'text-generation',
  );
}

async function writeText(folder: string, name: string, text: string): Promise<void> {
  await writeFile(path.join(folder, name), text);
}

function coarser(bits: number | undefined, sourceBits: number | undefined): string | undefined {
  if (bits === undefined || sourceBits === undefined || bits <= sourceBits) return undefined;
  return `Source already ${sourceBits}-bit. Quantizing to ${bits}-bit does not increase precision.`;
}

function done({ mode, quantize, dtype }: ConvertSettings, source: Source): string {
  const what = `${source.tensors.length} tensors`;
  if (quantize !== undefined) {
    const { bits, groupSize, mode: how, mixed } = quantize;
    return `Quantized ${what} to ${bits} bits (${mixed ?? how}, groups of ${groupSize})`;
  }
  return mode === 'dequantize' ? `Dequantized ${what}` : `Wrote ${what} as ${dtype ?? ''}`;
}

function bytesOf(files: readonly FileToCopy[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}
