/**
 * What the hub's refusals mean. Nothing here knows a token.
 */

import { MlxkError } from '../errors.js';

/** A failure that the same request may not meet again: worth another attempt. */
export class PassingFailure extends Error {
  override readonly name = 'PassingFailure';
  /** How long the server asked to wait, if it did. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: { retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** What an answer that is no success means for a request about `what`, for example a repository's id. */
export function failureOf(response: Response, what: string): MlxkError | PassingFailure {
  const { status, headers } = response;
  const code = headers.get('x-error-code') ?? '';
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    return new PassingFailure(`the hub answered ${status} for ${what}`, {
      retryAfterMs: retryAfterMs(headers.get('retry-after')),
    });
  }
  const detail = { status, ...(code !== '' && { hub_code: code.slice(0, 100) }) };
  const denied = (reason: string, message: string): MlxkError =>
    new MlxkError('access_denied', message, { reason, detail });
  if (code === 'GatedRepo') {
    return denied(
      'gated',
      `${what} is gated: ask for access on its page of the hub, then set HF_TOKEN`,
    );
  }
  if (code === 'RevisionNotFound') {
    return denied(
      'revision_not_found',
      `${what} was not found: the repository has no such revision`,
    );
  }
  if (code === 'RepoNotFound' || (status === 404 && code === '')) {
    return denied(
      'repository_not_found',
      `${what} was not found on the hub, or it is private and the token may not see it`,
    );
  }
  if (status === 401) {
    return denied(
      'token_refused',
      `the hub refused access to ${what}: the token is missing or not valid; set HF_TOKEN`,
    );
  }
  if (status === 403) return denied('forbidden', `the hub forbids access to ${what}`);
  return new MlxkError('download_failed', `the hub answered ${status} for ${what}`, {
    reason: code === 'EntryNotFound' ? 'file_not_found' : 'unexpected_status',
    detail,
  });
}

/** Seconds, or a date; `undefined` when it is neither. */
function retryAfterMs(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** What is left of a failure that did not pass. */
export function givenUp(failure: PassingFailure, attempts: number): MlxkError {
  return new MlxkError(
    'download_failed',
    `${failure.message}${attempts > 1 ? ` (${attempts} attempts)` : ''}. ` +
      'Try again later; "mlxk doctor" examines the connection',
    { reason: 'hub_unreachable', detail: { attempts }, cause: failure },
  );
}
