/**
 * Does a thing again when its failure may pass: with growing pauses, or after the pause the server asks for.
 */

import { setTimeout as wait } from 'node:timers/promises';

import { givenUp, PassingFailure } from './errors.js';

export interface RetryPolicy {
  /** Attempts without any progress before giving up. */
  readonly attempts: number;
  /** Pause before the second attempt; it doubles from then on. */
  readonly delayMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 5, delayMs: 500 };
const MAX_DELAY_MS = 30_000;
/** A server that wants to be left alone for longer is not waited for. */
const MAX_RETRY_AFTER_MS = 120_000;

/** Told of each failure that is followed by another attempt. */
export type OnRetry = (failure: PassingFailure, delayMs: number) => void;

/**
 * @param work Gets a function to call when it gets on: the count of attempts starts anew.
 * @throws MlxkError `download_failed`, reason `hub_unreachable`, after the last attempt.
 */
export async function withRetries<T>(
  work: (progressed: () => void) => Promise<T>,
  policy: RetryPolicy,
  signal: AbortSignal,
  onRetry?: OnRetry,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(() => (attempt = 1));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PassingFailure)) throw error;
      const delay = error.retryAfterMs ?? backoff(policy.delayMs, attempt);
      if (attempt >= policy.attempts || delay > MAX_RETRY_AFTER_MS) throw givenUp(error, attempt);
      onRetry?.(error, delay);
      await wait(delay, undefined, { signal });
    }
  }
}

/** Between half and all of the doubled pause, so that many clients do not come back at once. */
function backoff(delayMs: number, attempt: number): number {
  const full = Math.min(MAX_DELAY_MS, delayMs * 2 ** (attempt - 1));
  return full * (0.5 + Math.random() / 2);
}
