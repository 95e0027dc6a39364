/**
 * Brings a model into memory: name to folder, text files and weights side by side, and the clean end when either
 * fails or the caller aborts. Knows nothing of generation.
 */

import { addon } from './binding.js';
import { resolveModel, type ResolvedModel } from './cache/names.js';
import { fromNative, MlxkError } from './errors.js';
import { readOptionalJson } from './json-file.js';
import { kvQuantization } from './kv-quantization.js';
import { Model, type ModelInfo } from './model.js';
import type { NativeModel } from './native.js';
import { type LoadOptions, type LoadSettings, parseLoadOptions, wrongType } from './options.js';
import { stopIds } from './stop.js';
import { readTokenizer, type Tokenizer } from './tokenizer.js';

/**
 * Loads a model that is on this machine; nothing is downloaded.
 *
 * @param nameOrFolder `builtin`, a hub id in the Hugging Face cache, a unique part of one, `id@revision`, or a folder.
 * @throws TypeError or RangeError naming a wrong option; the signal's reason when aborted; MlxkError
 * `model_not_found`, `ambiguous_match`, `validation_error` for broken files, `not_implemented` for an unknown
 * architecture, `insufficient_memory`.
 *
 * @example
 * await using model = await load('builtin')
 */
export async function load(nameOrFolder: string, options?: LoadOptions): Promise<Model> {
  const settings = parseLoadOptions(options);
  if (typeof nameOrFolder !== 'string') throw wrongType('nameOrFolder', 'a string', nameOrFolder);
  settings.signal?.throwIfAborted();
  return await loadResolved(await resolveModel(nameOrFolder), settings);
}

/** @internal Loads from a folder that was found already. */
export async function loadResolved(
  resolved: ResolvedModel,
  settings: LoadSettings,
): Promise<Model> {
  const config = await readOptionalJson(resolved.folder, 'config.json');
  if (config === undefined) {
    throw new MlxkError(
      'validation_error',
      `${resolved.folder} has no config.json, so it is no model folder`,
      { reason: 'config_missing', detail: { folder: resolved.folder } },
    );
  }
  settings.signal?.throwIfAborted();

  // Ended by the first of: the caller's abort, a throw in the caller's callback, a broken text file.
  const ending = new AbortController();
  const end = (reason: unknown): void => {
    ending.abort(reason);
  };
  const endBySignal = (): void => {
    end(settings.signal?.reason);
  };
  const weights = startWeights(resolved.folder, settings, end);
  ending.signal.addEventListener('abort', () => {
    weights.cancel();
  });
  settings.signal?.addEventListener('abort', endBySignal, { once: true });
  const text = readText(resolved.folder, config).catch((error: unknown) => {
    end(error);
    throw error;
  });
  const [native] = await Promise.allSettled([weights.promise, text]);
  settings.signal?.removeEventListener('abort', endBySignal);

  if (ending.signal.aborted && native.status === 'fulfilled') await native.value.dispose();
  ending.signal.throwIfAborted();
  if (native.status === 'rejected') throw fromNative(native.reason);
  const parts = await text;
  const model = new Model({
    native: native.value,
    tokenizer: parts.tokenizer,
    info: modelInfo(resolved, native.value, parts),
    adapter: settings.adapter,
    kv: settings,
  });
  try {
    await model.prepare();
  } catch (error) {
    await model.dispose();
    throw error;
  }
  return model;
}

interface TextParts {
  readonly tokenizer: Tokenizer | undefined;
  readonly stopIds: readonly number[];
}

function startWeights(
  folder: string,
  settings: LoadSettings,
  end: (reason: unknown) => void,
): { promise: Promise<NativeModel>; cancel(): void } {
  const { prefillStepSize = 0, contextLength = 0, memoryLimit = 0, threads = 0 } = settings;
  try {
    return addon().loadModel(
      folder,
      {
        prefillStepSize,
        contextLength,
        memoryLimitBytes: memoryLimit,
        threads,
        kv: kvQuantization(settings),
      },
      (loadedBytes, totalBytes) => {
        try {
          settings.onProgress?.({ loadedBytes, totalBytes });
        } catch (error) {
          end(error);
        }
      },
    );
  } catch (error) {
    throw fromNative(error);
  }
}

async function readText(folder: string, config: Record<string, unknown>): Promise<TextParts> {
  const tokenizerConfig = await readOptionalJson(folder, 'tokenizer_config.json');
  const generationConfig = await readOptionalJson(folder, 'generation_config.json');
  const tokenizer = await readTokenizer(folder, tokenizerConfig);
  const sources = { config, generationConfig, tokenizerConfig };
  return { tokenizer, stopIds: stopIds(sources, (token) => tokenizer?.tokenToId(token)) };
}

function modelInfo(resolved: ResolvedModel, native: NativeModel, text: TextParts): ModelInfo {
  return {
    ...resolved,
    ...native.info,
    hasTokenizer: text.tokenizer !== undefined,
    hasChatTemplate: text.tokenizer?.hasChatTemplate ?? false,
    stopIds: text.stopIds,
  };
}
