/**
 * The options of `load` and `generate`: their names, types, ranges and defaults, and the one sentence in which a
 * wrong one is refused. The only place that knows option spellings; native code receives filled, checked numbers.
 */

import { MlxkError } from './errors.js';
import { closest } from './suggest.js';

/** How far reading a model's weights has come. */
export interface LoadProgress {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** How far processing a prompt has come. */
export interface PrefillProgress {
  readonly processedTokens: number;
  readonly totalTokens: number;
}

/** A tool the model may call, in the JSON form its chat template expects. */
export type Tool = Record<string, unknown>;

export interface LoadOptions {
  /** Called while weights are read, and once when all are. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Aborting rejects the load with the signal's reason and frees what was read. */
  signal?: AbortSignal | undefined;
  /** Prompt tokens processed in one step at most, 1 to 65,536. Default: what suits the device. */
  prefillStepSize?: number | undefined;
  /** Longest context (prompt and answer) in tokens. Default: what the model's config says. */
  contextLength?: number | undefined;
  /** Bytes that weights and caches may take. Default: what the machine or its container has. */
  memoryLimit?: number | undefined;
  /**
   * Threads that the CPU computes with, 1 to 256; all models of the process share them, and the last load that says so
   * decides. Default: MLXK_THREADS, else the physical cores that the process may use.
   */
  threads?: number | undefined;
  /** Folder of a LoRA or DoRA adapter (adapter_config.json, adapters.safetensors) that every request runs with. */
  adapter?: string | undefined;
  /**
   * Bits for each number of the keys and values that attention keeps: 2, 3, 4, 5, 6 or 8. Layers with a sliding window,
   * latent vectors and recurrent states stay as they are. Default: all stay as they are.
   */
  kvBits?: number | undefined;
  /** With `kvBits`: numbers that share a scale, 32, 64 or 128; it must divide the size of a head. Default 64. */
  kvGroupSize?: number | undefined;
  /** With `kvBits`: tokens of a context before its keys and values are packed. Default 5000. */
  quantizedKvStart?: number | undefined;
}

export interface GenerateOptions {
  /** Tokens the answer may have, 1 or more. Default: as many as the context has room for. */
  maxTokens?: number | undefined;
  /** 0 to 100. 0, the default, always takes the most probable token. */
  temperature?: number | undefined;
  /** Sample among the most probable tokens that together reach this probability, above 0 to 1. Default 1: off. */
  topP?: number | undefined;
  /** Sample among this many most probable tokens. Default 0: off. */
  topK?: number | undefined;
  /** Drop tokens less probable than this part of the best one's probability, 0 to 1. Default 0: off. */
  minP?: number | undefined;
  /** Makes sampling repeatable: a whole number of at most 64 bits. Default: drawn anew for each call. */
  seed?: number | bigint | undefined;
  /** Text or texts that end the answer; they are not part of it. */
  stop?: string | readonly string[] | undefined;
  /** Report the natural-log probability of each generated token. Default false. */
  logprobs?: boolean | undefined;
  /** Aborting rejects the call with the signal's reason, as `fetch` does. */
  signal?: AbortSignal | undefined;
  /** Extra variables for the chat template, for example `{ enable_thinking: false }`. */
  templateArgs?: Record<string, unknown> | undefined;
  /** Take a string as the prompt itself even where the model has a chat template. Default false. */
  raw?: boolean | undefined;
  /** Called while the prompt is processed. */
  onPrefill?: ((progress: PrefillProgress) => void) | undefined;
  /** Go on past the ids that end an answer, to `maxTokens`; for measuring. Default false. */
  ignoreEos?: boolean | undefined;
  /** Tools told to the chat template. */
  tools?: readonly Tool[] | undefined;
  /**
   * Folder of the adapter for this call, read at its first use; null takes the model without any. Requests with and
   * without adapters run side by side on the same weights. Default: what `load` was given.
   */
  adapter?: string | null | undefined;
  /** As of `load`, for this call; null keeps all keys and values as they are. Default: what `load` was given. */
  kvBits?: number | null | undefined;
  /** As of `load`, for this call. */
  kvGroupSize?: number | undefined;
  /** As of `load`, for this call. */
  quantizedKvStart?: number | undefined;
  /**
   * Go on from earlier calls with this option: tokens that the prompt begins with as they did are not computed again
   * (`usage.cachedTokens` counts them). Kept memory gives way to whatever needs it. Default false.
   */
  promptCache?: boolean | undefined;
}

/** `GenerateOptions`, checked and with defaults filled in. */
export interface GenerateSettings {
  readonly maxTokens: number | undefined;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly seed: bigint | undefined;
  readonly stop: readonly string[];
  readonly logprobs: boolean;
  readonly signal: AbortSignal | undefined;
  readonly templateArgs: Record<string, unknown>;
  readonly raw: boolean;
  readonly ignoreEos: boolean;
  readonly onPrefill: ((progress: PrefillProgress) => void) | undefined;
  readonly tools: readonly Tool[] | undefined;
  readonly adapter: string | null | undefined;
  readonly kvBits: number | null | undefined;
  readonly kvGroupSize: number | undefined;
  readonly quantizedKvStart: number | undefined;
  readonly promptCache: boolean;
}

/** `LoadOptions`, checked. */
export interface LoadSettings {
  readonly onProgress: ((progress: LoadProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly prefillStepSize: number | undefined;
  readonly contextLength: number | undefined;
  readonly memoryLimit: number | undefined;
  readonly threads: number | undefined;
  readonly adapter: string | undefined;
  readonly kvBits: number | undefined;
  readonly kvGroupSize: number | undefined;
  readonly quantizedKvStart: number | undefined;
}

/** Lengths travel to native code as signed 32-bit numbers. */
const MAX_LENGTH = 2 ** 31 - 1;
/** Above this every distribution is flat in float32; a larger number is a mistake. */
const MAX_TEMPERATURE = 100;
/** A step holds scores and activations for all its tokens at once; more gains nothing on any device. */
const MAX_PREFILL_STEP = 65_536;
/** More than any one machine's memory can feed. */
const MAX_THREADS = 256;
const MAX_SEED = 2n ** 64n - 1n;

/** What MLX packs numbers into, and how many of them share a scale. */
const KV_BITS = [2, 3, 4, 5, 6, 8];
const KV_GROUP_SIZES = [32, 64, 128];

type Parser<T> = (name: string, value: unknown) => T;

const GENERATE_PARSERS = {
  maxTokens: optional(integer(1, MAX_LENGTH)),
  temperature: withDefault(0, number(0, MAX_TEMPERATURE)),
  topP: withDefault(1, probabilityAboveZero),
  topK: withDefault(0, integer(0, MAX_LENGTH)),
  minP: withDefault(0, number(0, 1)),
  seed: optional(seed),
  stop: withDefault([], stopStrings),
  logprobs: withDefault(false, flag),
  signal: optional(signal),
  templateArgs: withDefault({}, plainObject),
  raw: withDefault(false, flag),
  ignoreEos: withDefault(false, flag),
  onPrefill: optional(callback as Parser<(progress: PrefillProgress) => void>),
  tools: optional(toolList),
  adapter: optional((name, value) => (value === null ? null : folder(name, value))),
  kvBits: optional((name, value) => (value === null ? null : oneOf(KV_BITS)(name, value))),
  kvGroupSize: optional(oneOf(KV_GROUP_SIZES)),
  quantizedKvStart: optional(integer(0, MAX_LENGTH)),
  promptCache: withDefault(false, flag),
} satisfies { [Name in keyof GenerateSettings]: Parser<GenerateSettings[Name]> };

const LOAD_PARSERS = {
  onProgress: optional(callback as Parser<(progress: LoadProgress) => void>),
  signal: optional(signal),
  prefillStepSize: optional(integer(1, MAX_PREFILL_STEP)),
  contextLength: optional(integer(1, MAX_LENGTH)),
  memoryLimit: optional(integer(1, Number.MAX_SAFE_INTEGER)),
  threads: optional(integer(1, MAX_THREADS)),
  adapter: optional(folder),
  kvBits: optional(oneOf(KV_BITS)),
  kvGroupSize: optional(oneOf(KV_GROUP_SIZES)),
  quantizedKvStart: optional(integer(0, MAX_LENGTH)),
} satisfies { [Name in keyof LoadSettings]: Parser<LoadSettings[Name]> };

/** Known to the design, absent from this release: refused by name instead of as a spelling mistake. */
const LATER_OPTIONS = [
  'xtcProbability',
  'xtcThreshold',
  'repetitionPenalty',
  'repetitionContext',
  'presencePenalty',
  'frequencyPenalty',
  'logitBias',
  'topLogprobs',
  'responseFormat',
  'toolChoice',
  'reasoningEffort',
  'draftModel',
  'promptLookup',
  'maxKvSize',
];

/**
 * Checks the options of one generation.
 *
 * @throws TypeError for an unknown name or a wrong type, RangeError for a number outside its range, MlxkError
 * `not_implemented` for an option of a later release.
 */
export function parseGenerateOptions(options: unknown): GenerateSettings {
  const given = named(options, Object.keys(GENERATE_PARSERS), LATER_OPTIONS);
  return {
    maxTokens: GENERATE_PARSERS.maxTokens('maxTokens', given.maxTokens),
    temperature: GENERATE_PARSERS.temperature('temperature', given.temperature),
    topP: GENERATE_PARSERS.topP('topP', given.topP),
    topK: GENERATE_PARSERS.topK('topK', given.topK),
    minP: GENERATE_PARSERS.minP('minP', given.minP),
    seed: GENERATE_PARSERS.seed('seed', given.seed),
    stop: GENERATE_PARSERS.stop('stop', given.stop),
    logprobs: GENERATE_PARSERS.logprobs('logprobs', given.logprobs),
    signal: GENERATE_PARSERS.signal('signal', given.signal),
    templateArgs: GENERATE_PARSERS.templateArgs('templateArgs', given.templateArgs),
    raw: GENERATE_PARSERS.raw('raw', given.raw),
    ignoreEos: GENERATE_PARSERS.ignoreEos('ignoreEos', given.ignoreEos),
    onPrefill: GENERATE_PARSERS.onPrefill('onPrefill', given.onPrefill),
    tools: GENERATE_PARSERS.tools('tools', given.tools),
    adapter: GENERATE_PARSERS.adapter('adapter', given.adapter),
    kvBits: GENERATE_PARSERS.kvBits('kvBits', given.kvBits),
    kvGroupSize: GENERATE_PARSERS.kvGroupSize('kvGroupSize', given.kvGroupSize),
    quantizedKvStart: GENERATE_PARSERS.quantizedKvStart('quantizedKvStart', given.quantizedKvStart),
    promptCache: GENERATE_PARSERS.promptCache('promptCache', given.promptCache),
  };
}

/**
 * Checks the options of `load`.
 *
 * @throws TypeError for an unknown name or a wrong type, RangeError for a number outside its range.
 */
export function parseLoadOptions(options: unknown): LoadSettings {
  const given = named(options, Object.keys(LOAD_PARSERS), []);
  return {
    onProgress: LOAD_PARSERS.onProgress('onProgress', given.onProgress),
    signal: LOAD_PARSERS.signal('signal', given.signal),
    prefillStepSize: LOAD_PARSERS.prefillStepSize('prefillStepSize', given.prefillStepSize),
    contextLength: LOAD_PARSERS.contextLength('contextLength', given.contextLength),
    memoryLimit: LOAD_PARSERS.memoryLimit('memoryLimit', given.memoryLimit),
    threads: LOAD_PARSERS.threads('threads', given.threads),
    adapter: LOAD_PARSERS.adapter('adapter', given.adapter),
    kvBits: LOAD_PARSERS.kvBits('kvBits', given.kvBits),
    kvGroupSize: LOAD_PARSERS.kvGroupSize('kvGroupSize', given.kvGroupSize),
    quantizedKvStart: LOAD_PARSERS.quantizedKvStart('quantizedKvStart', given.quantizedKvStart),
  };
}

/**
 * Checks that an options object has no name outside `known`.
 *
 * @throws TypeError that names the unknown option and the one that was probably meant.
 */
export function named(
  options: unknown,
  known: readonly string[],
  later: readonly string[] = [],
): Record<string, unknown> {
  if (options === undefined) return {};
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw wrongType('options', 'an object', options);
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    if (later.includes(name)) {
      if ((options as Record<string, unknown>)[name] === undefined) continue;
      throw new MlxkError('not_implemented', `option "${name}" is not in this release of mlxk`, {
        reason: 'option_not_implemented',
        detail: { option: name },
      });
    }
    const meant = closest(name, known);
    const hint =
      meant === undefined ? `known are: ${known.join(', ')}` : `did you mean "${meant}"?`;
    throw Object.assign(new TypeError(`unknown option "${name}"; ${hint}`), {
      code: 'validation_error',
      reason: 'unknown_option',
    });
  }
  return options as Record<string, unknown>;
}

/** The one sentence for a value of the wrong type: what was expected, for which name, what came. */
export function wrongType(name: string, expected: string, value: unknown): TypeError {
  return Object.assign(new TypeError(`${name} must be ${expected}, got ${shown(value)}`), {
    code: 'validation_error',
    reason: 'wrong_type',
  });
}

/** The same sentence for a value of the right type that is outside its range. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError {
  return Object.assign(new RangeError(`${name} must be ${expected}, got ${shown(value)}`), {
    code: 'validation_error',
    reason: 'out_of_range',
  });
}

/** A value as it stands in an error sentence: short, and one line. */
function shown(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  }
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'function') return 'a function';
  return String(value);
}

function optional<T>(parse: Parser<T>): Parser<T | undefined> {
  return (name, value) => (value === undefined ? undefined : parse(name, value));
}

function withDefault<T>(fallback: T, parse: Parser<T>): Parser<T> {
  return (name, value) => (value === undefined ? fallback : parse(name, value));
}

function number(min: number, max: number): Parser<number> {
  const expected = `a number from ${min} to ${max}`;
  return (name, value) => {
    if (typeof value !== 'number') throw wrongType(name, expected, value);
    if (!(value >= min && value <= max)) throw outOfRange(name, expected, value);
    return value;
  };
}

/** 0 means "off" to some tools and "only the best" to others, so it is refused. */
function probabilityAboveZero(name: string, value: unknown): number {
  const expected = 'a number above 0 and at most 1';
  if (typeof value !== 'number') throw wrongType(name, expected, value);
  if (!(value > 0 && value <= 1)) throw outOfRange(name, expected, value);
  return value;
}

function integer(min: number, max: number): Parser<number> {
  const expected = `a whole number from ${min} to ${max}`;
  return (name, value) => {
    if (typeof value !== 'number') throw wrongType(name, expected, value);
    if (!Number.isInteger(value) || value < min || value > max) {
      throw outOfRange(name, expected, value);
    }
    return value;
  };
}

function oneOf(values: readonly number[]): Parser<number> {
  const expected = `one of ${values.join(', ')}`;
  return (name, value) => {
    if (typeof value !== 'number') throw wrongType(name, expected, value);
    if (!values.includes(value)) throw outOfRange(name, expected, value);
    return value;
  };
}

function seed(name: string, value: unknown): bigint {
  const expected = 'a whole number from 0 to 2^53 - 1, or a bigint of at most 64 bits';
  if (typeof value === 'bigint') {
    if (value < 0n || value > MAX_SEED) throw outOfRange(name, expected, value);
    return value;
  }
  if (typeof value !== 'number') throw wrongType(name, expected, value);
  if (!Number.isSafeInteger(value) || value < 0) throw outOfRange(name, expected, value);
  return BigInt(value);
}

function folder(name: string, value: unknown): string {
  if (typeof value !== 'string') throw wrongType(name, 'the path of a folder', value);
  if (value === '') throw outOfRange(name, 'the path of a folder', value);
  return value;
}

function flag(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value);
  return value;
}

function signal(name: string, value: unknown): AbortSignal {
  if (!(value instanceof AbortSignal)) throw wrongType(name, 'an AbortSignal', value);
  return value;
}

function callback(name: string, value: unknown): (...args: never[]) => unknown {
  if (typeof value !== 'function') throw wrongType(name, 'a function', value);
  return value as (...args: never[]) => unknown;
}

function plainObject(name: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrongType(name, 'an object', value);
  }
  return value as Record<string, unknown>;
}

function stopStrings(name: string, value: unknown): readonly string[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((entry) => {
    if (typeof entry !== 'string') throw wrongType(name, 'a string or an array of strings', entry);
    if (entry === '') throw outOfRange(name, 'free of empty strings', entry);
    return entry;
  });
}

function toolList(name: string, value: unknown): readonly Tool[] {
  if (!Array.isArray(value)) throw wrongType(name, 'an array of tool objects', value);
  return value.map((tool, index) => plainObject(`${name}[${index}]`, tool));
}
