/**
 * A loaded model: what can be asked of it, and in which state. Combines tokenizer, stop rules and engine; knows
 * nothing of names, the cache or the command line.
 */

import { randomBytes } from 'node:crypto';

import { Adapters, NO_ADAPTER } from './adapters.js';
import { Answer } from './answer.js';
import { MlxkError, fromNative } from './errors.js';
import { Generation, type GenerationPlan, type GenerationSource } from './generation.js';
import { checkTokens, type Input, toPrompt } from './input.js';
import { kvQuantization, type KvSettings } from './kv-quantization.js';
import type { NativeModel } from './native.js';
import { type GenerateOptions, type GenerateSettings, parseGenerateOptions } from './options.js';
import { endOfTurnIds } from './stop.js';
import { TOKEN_WINDOW } from './stream.js';
import type { Tokenizer } from './tokenizer.js';

/** Facts about a loaded model. */
export interface ModelInfo {
  /** Hub id, `builtin`, or the folder's path. */
  readonly name: string;
  readonly folder: string;
  /** Commit of the cached snapshot; absent outside the cache. */
  readonly revision?: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** Every token id is below this. */
  readonly vocabSize: number;
  /** Longest context, prompt and answer, in tokens. */
  readonly contextLength: number;
  readonly layers: number;
  readonly weightBytes: number;
  /** The type most weights have, for example `bfloat16` or `4-bit`. */
  readonly weightType: string;
  readonly hasTokenizer: boolean;
  /** Whether a string is taken as a user's message. */
  readonly hasChatTemplate: boolean;
  /** Ids that end an answer. */
  readonly stopIds: readonly number[];
}

/** What a model is made of; put together by `load`. */
export interface ModelParts {
  readonly native: NativeModel;
  readonly tokenizer: Tokenizer | undefined;
  readonly info: ModelInfo;
  /** Folder of the adapter that a call without one of its own runs with. */
  readonly adapter: string | undefined;
  /** How a call without options of its own keeps keys and values. */
  readonly kv: KvSettings;
}

/** There is no state before `ready`: a model that is still loading is a promise. */
type State = 'ready' | 'disposing' | 'disposed';

/**
 * A model in memory. Any number of generations may run at once; they share the engine's steps.
 *
 * @example
 * await using model = await load('org/model')
 * const { text } = await model.generate('Why is the sky blue?')
 */
export class Model implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly #native: NativeModel;
  readonly #tokenizer: Tokenizer | undefined;
  readonly #adapters: Adapters;
  readonly #defaultAdapter: string | undefined;
  readonly #kv: KvSettings;
  #state: State = 'ready';
  #disposal: Promise<void> | undefined;

  /** Made by `load`. */
  constructor(parts: ModelParts) {
    this.info = Object.freeze(parts.info);
    this.#native = parts.native;
    this.#tokenizer = parts.tokenizer;
    this.#adapters = new Adapters(parts.native);
    this.#defaultAdapter = parts.adapter;
    this.#kv = parts.kv;
  }

  /**
   * The model's tokenizer; usable after the model is disposed.
   *
   * @throws MlxkError `validation_error` / `tokenizer_missing` for a folder without tokenizer.json.
   */
  get tokenizer(): Tokenizer {
    if (this.#tokenizer !== undefined) return this.#tokenizer;
    throw new MlxkError(
      'validation_error',
      `${this.info.name} has no tokenizer.json: it takes no text, only token ids ({ tokens })`,
      { reason: 'tokenizer_missing' },
    );
  }

  /**
   * Answers an input. Await the call for the whole answer, or iterate it for the pieces.
   *
   * @throws (as rejection, or from the loop) TypeError or RangeError naming a wrong option; MlxkError
   * `validation_error` with reason `empty_prompt`, `token_out_of_range`, `context_overflow`, `tokenizer_missing`,
   * `kv_group_size`, `kv_quantization_unsupported`, `disposed`; the signal's reason when `signal` is aborted.
   */
  generate(input: Input, options?: GenerateOptions): Generation {
    return new Generation(() => this.source(input, options));
  }

  /** @internal */
  source(input: Input, options?: GenerateOptions): GenerationSource {
    const settings = parseGenerateOptions(options);
    return { signal: settings.signal, plan: () => this.plan(input, settings) };
  }

  /** @internal */
  plan(input: Input, settings: GenerateSettings): GenerationPlan | Promise<GenerationPlan> {
    this.#requireReady();
    const { tokens, isChat } = toPrompt(input, settings, () => this.tokenizer);
    const adapter = this.#adapter(settings.adapter);
    return tokens instanceof Promise || adapter instanceof Promise
      ? Promise.all([tokens, adapter]).then(([ids, number]) =>
          this.#planTokens(ids, isChat, settings, number),
        )
      : this.#planTokens(tokens, isChat, settings, adapter);
  }

  /**
   * Scores of every token after the last of `ids`, [vocabSize]. Needs no tokenizer.
   *
   * @throws MlxkError `validation_error` with reason `empty_prompt`, `token_out_of_range`, `context_overflow` or
   * `disposed`.
   */
  async logits(ids: ArrayLike<number>): Promise<Float32Array> {
    this.#requireReady();
    try {
      const tokens = checkTokens('ids', ids);
      const adapter = await this.#adapter(undefined);
      return await this.#native.logits(tokens, { adapter, kv: kvQuantization(this.#kv) });
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Ends what runs (as `abort` does), waits for the running step and frees the memory. Idempotent. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#dispose();
    return this.#disposal;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #dispose(): Promise<void> {
    this.#state = 'disposing';
    await this.#native.dispose();
    this.#state = 'disposed';
  }

  /** The engine's number for the adapter of one call. */
  #adapter(folder: string | null | undefined): number | Promise<number> {
    const chosen = folder === undefined ? this.#defaultAdapter : folder;
    return chosen == null ? NO_ADAPTER : this.#adapters.number(chosen);
  }

  /** @internal Reads the adapter that the model was loaded with, so that a broken one ends the load. */
  async prepare(): Promise<void> {
    await this.#adapter(undefined);
  }

  #planTokens(
    tokens: Uint32Array,
    isChat: boolean,
    settings: GenerateSettings,
    adapter: number,
  ): GenerationPlan {
    const { stops, stopIds } = this.#stopRules(settings, isChat);
    const room = Math.max(1, this.info.contextLength - tokens.length);
    const tokenizer = this.#tokenizer;
    return {
      answer: new Answer({
        detokenizer: tokenizer?.detokenizer(),
        stop: stops,
        stopIds,
        logprobs: settings.logprobs,
      }),
      onPrefill: settings.onPrefill,
      submit: (onEvents) => {
        this.#requireReady();
        const params = {
          maxTokens: Math.min(settings.maxTokens ?? room, room),
          temperature: settings.temperature,
          topP: settings.topP,
          topK: settings.topK,
          minP: settings.minP,
          seed: settings.seed ?? randomBytes(8).readBigUInt64LE(),
          stopIds: Uint32Array.from(stopIds),
          credit: TOKEN_WINDOW,
          adapter,
          kv: kvQuantization(this.#kv, settings),
          keepPrefix: settings.promptCache,
        };
        return this.#native.generate(tokens, params, onEvents);
      },
    };
  }

  /** A stop string that spells a special token is that token's id: such tokens never show in the text. */
  #stopRules(
    settings: GenerateSettings,
    isChat: boolean,
  ): { stops: string[]; stopIds: Set<number> } {
    const stopIds = new Set(settings.ignoreEos ? [] : this.info.stopIds);
    const stops: string[] = [];
    for (const stop of settings.stop) {
      const id = this.#tokenizer?.specialId(stop);
      if (id === undefined) stops.push(stop);
      else stopIds.add(id);
    }
    const tokenizer = this.#tokenizer;
    if (isChat && !settings.ignoreEos && tokenizer !== undefined) {
      for (const id of endOfTurnIds((token) => tokenizer.specialId(token))) stopIds.add(id);
    }
    return { stops, stopIds };
  }

  #requireReady(): void {
    if (this.#state === 'ready') return;
    throw new MlxkError('validation_error', `${this.info.name} is ${this.#state}`, {
      reason: 'disposed',
      detail: { state: this.#state },
    });
  }
}
