/**
 * The queue between the engine's events and one reader: pieces wait here until they are taken, and the engine gets
 * credit for as many tokens as the reader took. A reader that stops taking stops the engine.
 * Knows nothing of what is in a piece but how many tokens it stands for.
 */

/** What the queue needs to know of an item. */
interface Counted {
  readonly tokens: readonly number[];
}

/**
 * Tokens the engine may be ahead of the reader: enough that a reader busy for some milliseconds never stalls a
 * model, few enough that a stalled reader costs nothing.
 */
export const TOKEN_WINDOW = 64;
/** More tokens than any context holds; credit travels as a signed 32-bit number. */
const UNLIMITED = 2 ** 30;

type Ending = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: unknown };

interface Reader<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: unknown): void;
}

export class PieceQueue<T extends Counted> {
  readonly #items: T[] = [];
  #ending: Ending | undefined;
  readonly #waiting: Reader<T>[] = [];
  #queuedTokens = 0;
  #receivedTokens = 0;
  #grantedTokens = TOKEN_WINDOW;
  #window = TOKEN_WINDOW;
  #grant: ((tokens: number) => void) | undefined;

  /** Credit goes here from now on; `TOKEN_WINDOW` is taken as granted already. */
  connect(grant: (tokens: number) => void): void {
    this.#grant = grant;
    this.#giveCredit();
  }

  /** Nobody reads piece by piece: the engine need not wait. */
  openWindow(): void {
    this.#window = UNLIMITED;
    this.#giveCredit();
  }

  /** Tokens that arrived, whether or not a piece came of them yet. */
  receive(tokens: number): void {
    this.#receivedTokens += tokens;
  }

  push(item: T): void {
    if (this.#ending !== undefined) return; // The reader left; what was on its way is not for anybody.
    const reader = this.#waiting.shift();
    if (reader !== undefined) {
      reader.resolve({ value: item, done: false });
      return;
    }
    this.#items.push(item);
    this.#queuedTokens += item.tokens.length;
  }

  /** No more pieces; the queued ones can still be taken. */
  close(): void {
    this.#end({ kind: 'done' });
  }

  /** The reader's next step fails; queued pieces are dropped. */
  fail(error: unknown): void {
    this.#items.length = 0;
    this.#end({ kind: 'failed', error });
  }

  /** The reader left: nothing is kept for it. */
  discard(): void {
    this.#items.length = 0;
    this.#end({ kind: 'done' });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const item = this.#items.shift();
    if (item !== undefined) {
      this.#queuedTokens -= item.tokens.length;
      this.#giveCredit();
      return Promise.resolve({ value: item, done: false });
    }
    if (this.#ending?.kind === 'failed') {
      const { error } = this.#ending;
      this.#ending = { kind: 'done' };
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- a signal's reason may be anything
      return Promise.reject(error);
    }
    if (this.#ending !== undefined) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Call after each delivery: tokens that are not waiting for the reader free their credit at once. */
  settleCredit(): void {
    this.#giveCredit();
  }

  #giveCredit(): void {
    if (this.#grant === undefined || this.#ending !== undefined) return;
    const allowed = Math.min(this.#receivedTokens - this.#queuedTokens + this.#window, UNLIMITED);
    if (allowed <= this.#grantedTokens) return;
    const tokens = allowed - this.#grantedTokens;
    this.#grantedTokens = allowed;
    this.#grant(tokens);
  }

  #end(ending: Ending): void {
    if (this.#ending !== undefined) return;
    this.#ending = ending;
    for (const reader of this.#waiting.splice(0)) {
      if (this.#ending.kind === 'failed') {
        const { error } = this.#ending;
        this.#ending = { kind: 'done' }; // One reader learns of a failure; after it the stream is over.
        reader.reject(error);
      } else {
        reader.resolve({ value: undefined, done: true });
      }
    }
  }
}
