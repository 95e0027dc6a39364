/**
 * What ends an answer: stop ids, gathered from a model's config files, and stop strings, filtered out of its text.
 * Pure: knows neither files nor the engine.
 */

/** The parsed config files of a model folder that may name stop tokens; absent files are `undefined`. */
export interface StopSources {
  readonly generationConfig?: unknown;
  readonly config?: unknown;
  readonly tokenizerConfig?: unknown;
}

/**
 * Tokens that end a turn and nothing else, in every family that has them. Conversions of chat models often lose
 * them from the config files and would then write both sides of the conversation.
 */
const END_OF_TURN = ['<|im_end|>', '<|eot_id|>', '<end_of_turn>'];
/** Ends a turn too, except where turns have channels: there it ends only the first part of one. */
const END_OF_PART = '<|end|>';
const CHANNEL = '<|channel|>';

/** Stop ids that the config files of a model name, sorted; a file may give one id or a list. */
export function stopIds(
  sources: StopSources,
  tokenToId: (token: string) => number | undefined,
): number[] {
  const ids = new Set<number>();
  const config = record(sources.config);
  for (const value of [
    record(sources.generationConfig).eos_token_id,
    config.eos_token_id,
    record(config.text_config).eos_token_id,
  ]) {
    for (const id of Array.isArray(value) ? value : [value]) {
      if (typeof id === 'number' && Number.isInteger(id) && id >= 0) ids.add(id);
    }
  }
  const eosToken = tokenText(record(sources.tokenizerConfig).eos_token);
  const eosId = eosToken === undefined ? undefined : tokenToId(eosToken);
  if (eosId !== undefined) ids.add(eosId);
  return [...ids].sort((a, b) => a - b);
}

/** Ids that end an assistant's turn in a rendered conversation, whether or not a config file names them. */
export function endOfTurnIds(tokenToId: (token: string) => number | undefined): number[] {
  const tokens = tokenToId(CHANNEL) === undefined ? [...END_OF_TURN, END_OF_PART] : END_OF_TURN;
  return tokens.map(tokenToId).filter((id) => id !== undefined);
}

/** A token as tokenizer_config.json writes it: its text, or an object with the text as `content`. */
export function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  const { content } = record(value);
  return typeof content === 'string' ? content : undefined;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/**
 * Cuts a stream of text before the first stop string in it. Text that may yet become a stop string is held back, so
 * that what went out never has to be taken back. How the stream is cut into pieces does not change the result: the
 * stop string whose last character comes first wins, and of those that end together the longest.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = '';
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether a stop string was found; nothing comes out after it. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the next piece and returns the text that is certain by now. */
  push(text: string): string {
    if (this.#stopped || text === '') return '';
    const buffer = this.#held + text;
    const cut = this.#firstMatch(buffer);
    if (cut !== undefined) {
      this.#stopped = true;
      this.#held = '';
      return buffer.slice(0, cut);
    }
    const certain = buffer.length - this.#possibleStart(buffer);
    this.#held = buffer.slice(certain);
    return buffer.slice(0, certain);
  }

  /** The stream has ended: what is held back did not become a stop string. */
  finish(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  #firstMatch(buffer: string): number | undefined {
    let start: number | undefined;
    let end = Infinity;
    for (const stop of this.#stops) {
      const at = buffer.indexOf(stop);
      if (at < 0) continue;
      const until = at + stop.length;
      if (until < end || (until === end && at < (start ?? end))) {
        start = at;
        end = until;
      }
    }
    return start;
  }

  /** Length of the longest end of `buffer` that begins a stop string. */
  #possibleStart(buffer: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, buffer.length); length > longest; length--) {
        if (stop.startsWith(buffer.slice(-length))) longest = length;
      }
    }
    return longest;
  }
}
