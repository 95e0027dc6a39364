/**
 * One abort that follows others. In place of `AbortSignal.any`, whose signals Node 20 may collect while somebody still
 * waits for them. Depends on nothing.
 */

import { setMaxListeners } from 'node:events';

export class LinkedAbort {
  readonly #controller = new AbortController();
  readonly #parents: readonly AbortSignal[];
  readonly #follow = (event: Event): void => {
    this.abort((event.target as AbortSignal).reason);
  };

  constructor(...parents: (AbortSignal | null | undefined)[]) {
    setMaxListeners(0, this.signal); // One for each request under way, and none of them leaks.
    this.#parents = parents.filter((parent) => parent != null);
    for (const parent of this.#parents) {
      if (parent.aborted) this.abort(parent.reason);
      else parent.addEventListener('abort', this.#follow, { once: true });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The first reason counts. */
  abort(reason?: unknown): void {
    if (!this.signal.aborted) this.#controller.abort(reason);
    this.release();
  }

  /** Follows no more. To be called when the work is done, else the parents keep this alive. */
  release(): void {
    for (const parent of this.#parents) parent.removeEventListener('abort', this.#follow);
  }
}
