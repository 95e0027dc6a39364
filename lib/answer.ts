/**
 * From token events to an answer: ids become whole characters, stop strings are cut off, logprobs are kept beside
 * their tokens. Produces the pieces a reader sees and the result at the end. Knows nothing of when they are read.
 */

import type { NativeDetokenizer, NativeStats } from './native.js';
import { StopFilter } from './stop.js';

/** Natural-log probability of one generated token under the model's unfiltered distribution. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
}

/** A part of an answer, in order. */
export interface Piece {
  /** Whole characters; empty where tokens came without text, as on a model without tokenizer. */
  readonly text: string;
  /** The ids this piece stands for. Those of all pieces together are the result's `tokens`. */
  readonly tokens: readonly number[];
  readonly kind: 'answer' | 'reasoning' | 'tool';
  /** With option `logprobs`: one for each of `tokens`. */
  readonly logprobs?: readonly TokenLogprob[];
}

/** Why an answer ended: by itself or a stop string, at its length limit, or because it was told to. */
export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'abort';

export interface Usage {
  readonly promptTokens: number;
  /** Prompt tokens that an earlier generation had left ready. */
  readonly cachedTokens: number;
  /** Generated tokens, a stop token included. */
  readonly completionTokens: number;
}

export interface Timings {
  /** Milliseconds from the call to the first token; 0 when there was none. */
  readonly firstTokenMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly promptTokensPerSecond: number;
  readonly tokensPerSecond: number;
  /** Most bytes MLX had allocated at once in this process so far. */
  readonly peakMemoryBytes: number;
}

export interface GenerateResult {
  readonly text: string;
  /** Every generated id, a stop token included. */
  readonly tokens: readonly number[];
  readonly finishReason: FinishReason;
  readonly usage: Usage;
  readonly timings: Timings;
  /** With option `logprobs`: one for each of `tokens`. */
  readonly logprobs?: readonly TokenLogprob[];
}

export class Answer {
  readonly #detokenizer: NativeDetokenizer | undefined;
  readonly #filter: StopFilter;
  readonly #stopIds: ReadonlySet<number>;
  readonly #withLogprobs: boolean;
  readonly #tokens: number[] = [];
  readonly #logprobs: TokenLogprob[] = [];
  #text = '';
  /** Tokens of earlier pieces. */
  #delivered = 0;

  constructor(options: {
    /** Absent on a model without tokenizer: pieces then carry ids only. */
    detokenizer: NativeDetokenizer | undefined;
    stop: readonly string[];
    stopIds: Iterable<number>;
    logprobs: boolean;
  }) {
    this.#detokenizer = options.detokenizer;
    this.#filter = new StopFilter(options.stop);
    this.#stopIds = new Set(options.stopIds);
    this.#withLogprobs = options.logprobs;
  }

  /** Whether a stop string ended the answer; tokens after it do not count. */
  get stopped(): boolean {
    return this.#filter.stopped;
  }

  /** Takes the next token and returns a piece if text became certain with it. */
  push(token: number, logprob: number): Piece | undefined {
    this.#tokens.push(token);
    if (this.#withLogprobs) this.#logprobs.push({ token, logprob });
    if (this.#detokenizer === undefined) return this.#piece('');
    if (this.#stopIds.has(token)) return undefined; // A stop token ends the answer without being text of it.
    const text = this.#filter.push(this.#detokenizer.push(token));
    return text === '' ? undefined : this.#piece(text);
  }

  /** The stream has ended: what was held back, and the tokens that came without text. */
  finish(): Piece | undefined {
    const text = this.#filter.push(this.#detokenizer?.finish() ?? '') + this.#filter.finish();
    return text === '' && this.#delivered === this.#tokens.length ? undefined : this.#piece(text);
  }

  result(finishReason: FinishReason, firstTokenMs: number, stats?: NativeStats): GenerateResult {
    const { promptTokens = 0, cachedTokens = 0, prefillMs = 0, decodeMs = 0 } = stats ?? {};
    const completionTokens = this.#tokens.length;
    return {
      text: this.#text,
      tokens: this.#tokens,
      finishReason,
      usage: { promptTokens, cachedTokens, completionTokens },
      timings: {
        firstTokenMs,
        prefillMs,
        decodeMs,
        promptTokensPerSecond: perSecond(promptTokens - cachedTokens, prefillMs),
        tokensPerSecond: perSecond(completionTokens, decodeMs),
        peakMemoryBytes: stats?.peakMemoryBytes ?? 0,
      },
      ...(this.#withLogprobs && { logprobs: this.#logprobs }),
    };
  }

  #piece(text: string): Piece {
    this.#text += text;
    const from = this.#delivered;
    this.#delivered = this.#tokens.length;
    return {
      text,
      tokens: this.#tokens.slice(from),
      kind: 'answer',
      ...(this.#withLogprobs && { logprobs: this.#logprobs.slice(from) }),
    };
  }
}

function perSecond(count: number, ms: number): number {
  return ms > 0 ? (count * 1000) / ms : 0;
}
