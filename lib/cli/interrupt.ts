/**
 * Ctrl-C: the first one stops what is running, a second one leaves. Other signals that end the program leave at once,
 * but not without what is to be done before. Knows nothing of what runs.
 */

/** What a shell expects of a process that Ctrl-C ended: 128 and the signal's number. */
export const INTERRUPTED = 130;

export class Interrupts {
  #stop: (() => void) | undefined;
  #stopping = false;
  /** What to do before leaving, such as giving the terminal back. */
  beforeLeaving: (() => void) | undefined;

  constructor() {
    process.on('SIGINT', () => {
      this.interrupt();
    });
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
      // Without a listener the second time, it ends the program as it always would.
      process.once(signal, () => {
        this.beforeLeaving?.();
        process.kill(process.pid, signal);
      });
    }
  }

  /** Runs `work`; an interrupt meanwhile calls `stop` once. Tells whether there was one. */
  async guard<T>(
    stop: () => void,
    work: () => Promise<T>,
  ): Promise<{ value: T; interrupted: boolean }> {
    this.#stop = stop;
    this.#stopping = false;
    try {
      const value = await work();
      return { value, interrupted: this.#stopping };
    } finally {
      this.#stop = undefined;
    }
  }

  interrupt(): void {
    if (this.#stop !== undefined && !this.#stopping) {
      this.#stopping = true;
      this.#stop();
      return;
    }
    this.beforeLeaving?.();
    process.exit(INTERRUPTED);
  }
}
