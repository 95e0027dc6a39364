/**
 * One answer being made: started by the call, then awaited, iterated, or both. Owns the life cycle (starting,
 * running, ended) and every way to end: by itself, `abort`, a signal, leaving the loop, an error.
 * Knows nothing of prompts and options; all of it runs on the JS thread.
 */

import { performance } from 'node:perf_hooks';

import { Answer, type GenerateResult, type Piece } from './answer.js';
import { fromNative, MlxkError } from './errors.js';
import type { NativeEnd, NativeEvents, NativeGeneration } from './native.js';
import type { PrefillProgress } from './options.js';
import { PieceQueue } from './stream.js';

/** What a model hands over to have an answer made. */
export interface GenerationPlan {
  readonly answer: Answer;
  readonly onPrefill: ((progress: PrefillProgress) => void) | undefined;
  /** Submits the prompt to the engine. */
  submit(onEvents: (events: NativeEvents) => void): NativeGeneration;
}

/** Where a generation gets its plan from; made within the call, so that a mistake in it becomes a rejection. */
export interface GenerationSource {
  readonly signal: AbortSignal | undefined;
  /** Makes the plan; at once where it can, so that the engine starts within the call. */
  plan(): GenerationPlan | Promise<GenerationPlan>;
  /** Called once, when nothing of the generation runs any more. */
  released?(): void;
}

type State = 'starting' | 'running' | 'ended';

/**
 * An answer on its way. The work starts with the call; `await` it for the whole, iterate it for the pieces. After
 * iterating, awaiting gives the result too. Pieces can be iterated once.
 *
 * While it is only iterated the engine is never more than a few dozen tokens ahead of the reader; awaiting lets it
 * run to the end. Leaving the loop ends the generation. One that is neither iterated nor awaited pauses after those
 * tokens, and keeps its memory and the process until it is aborted or its model is disposed.
 *
 * @example
 * const answer = model.generate('Why is the sky blue?', { maxTokens: 200 })
 * for await (const piece of answer) process.stdout.write(piece.text)
 * const { usage } = await answer
 */
export class Generation implements AsyncIterable<Piece>, PromiseLike<GenerateResult> {
  readonly #startedMs = performance.now();
  readonly #queue = new PieceQueue<Piece>();
  readonly #result = deferred<GenerateResult>();
  /** Settled when neither plan nor engine works on this generation any more. */
  readonly #idle = deferred<undefined>();
  readonly #onSignal = (): void => {
    this.#fail(this.#source?.signal?.reason);
  };
  #state: State = 'starting';
  #source: GenerationSource | undefined;
  #native: NativeGeneration | undefined;
  #firstTokenMs = 0;
  #iterated = false;

  /** Made by `Model.generate` and `generate`. */
  constructor(open: () => GenerationSource) {
    void this.#start(open);
  }

  /** Ends the answer before its next token; it then has finishReason `abort` and the text so far. Idempotent. */
  abort(): void {
    if (this.#state === 'running') this.#native?.cancel();
    if (this.#state === 'starting') this.#succeed(emptyAnswer().result('abort', 0));
  }

  then<Fulfilled = GenerateResult, Rejected = never>(
    onFulfilled?: ((result: GenerateResult) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((error: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    this.#queue.openWindow(); // Who waits for the whole must not wait for a reader of the pieces.
    return this.#result.promise.then(onFulfilled, onRejected);
  }

  catch<Rejected = never>(
    onRejected?: ((error: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<GenerateResult | Rejected> {
    return this.then(undefined, onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<GenerateResult> {
    this.#queue.openWindow();
    return this.#result.promise.finally(onFinally);
  }

  /** @throws MlxkError `validation_error` / `already_iterated` the second time. */
  [Symbol.asyncIterator](): AsyncIterator<Piece, undefined> {
    if (this.#iterated) {
      throw new MlxkError('validation_error', 'the pieces of a generation can be iterated once', {
        reason: 'already_iterated',
      });
    }
    this.#iterated = true;
    this.#result.promise.catch(() => undefined); // The reader of the pieces gets the error.
    return {
      next: () => this.#queue.next(),
      return: async () => {
        this.abort();
        this.#queue.discard();
        await this.#idle.promise;
        return { value: undefined, done: true };
      },
    };
  }

  async #start(open: () => GenerationSource): Promise<void> {
    try {
      this.#source = open();
      const { signal } = this.#source;
      if (signal?.aborted) {
        this.#fail(signal.reason);
        this.#release();
        return;
      }
      signal?.addEventListener('abort', this.#onSignal, { once: true });
      const plan = this.#source.plan();
      this.#submit(plan instanceof Promise ? await plan : plan);
    } catch (error) {
      this.#fail(fromNative(error));
      this.#release();
    }
  }

  #submit(plan: GenerationPlan): void {
    if (this.#state === 'ended') {
      this.#release();
      return;
    }
    const native = plan.submit((events) => {
      this.#onEvents(events, plan);
    });
    this.#native = native;
    this.#state = 'running';
    this.#queue.connect((tokens) => {
      native.credit(tokens);
    });
  }

  #onEvents(events: NativeEvents, plan: GenerationPlan): void {
    try {
      if (this.#state === 'running') this.#deliver(events, plan);
    } catch (error) {
      this.#fail(error); // A caller's onPrefill threw.
    }
    if (events.end !== undefined) this.#release();
  }

  #deliver(events: NativeEvents, { answer, onPrefill }: GenerationPlan): void {
    const { tokens, logprobs, prefill } = events;
    if (prefill !== undefined) {
      onPrefill?.({ processedTokens: prefill.done, totalTokens: prefill.total });
    }
    if (tokens.length > 0 && this.#firstTokenMs === 0) {
      this.#firstTokenMs = performance.now() - this.#startedMs;
    }
    for (const [index, token] of tokens.entries()) {
      if (answer.stopped) break;
      this.#queue.receive(1);
      const piece = answer.push(token, logprobs[index] ?? NaN);
      if (piece !== undefined) this.#queue.push(piece);
    }
    if (events.end !== undefined) this.#finish(events.end, answer, events);
    else if (answer.stopped) this.#native?.cancel();
    else this.#queue.settleCredit();
  }

  #finish(end: NativeEnd, answer: Answer, { error, stats }: NativeEvents): void {
    if (end === 'error') {
      this.#fail(fromNative(error));
      return;
    }
    const rest = answer.finish();
    if (rest !== undefined) this.#queue.push(rest);
    this.#succeed(answer.result(answer.stopped ? 'stop' : end, this.#firstTokenMs, stats));
  }

  #succeed(result: GenerateResult): void {
    this.#state = 'ended';
    this.#forgetSignal();
    this.#queue.close();
    this.#result.resolve(result);
  }

  #fail(error: unknown): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#forgetSignal();
    this.#native?.cancel();
    this.#queue.fail(error);
    this.#result.reject(error);
  }

  #forgetSignal(): void {
    this.#source?.signal?.removeEventListener('abort', this.#onSignal);
  }

  #release(): void {
    this.#source?.released?.();
    this.#idle.resolve(undefined);
  }
}

function emptyAnswer(): Answer {
  return new Answer({ detokenizer: undefined, stop: [], stopIds: [], logprobs: false });
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** `Promise.withResolvers`, which Node has from version 22. */
function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
