/**
 * The one error type of the public API and the table behind it: code, HTTP status, exit code, retryable.
 * Codes are the error types of the JSON contract; the finer cause is `reason`, stable and in snake_case.
 * Depends on nothing.
 */

interface ErrorRow {
  /** What the server answers with. */
  readonly httpStatus: number;
  /** What the command line exits with. */
  readonly exitCode: number;
  /** Whether the same call may succeed later without any change by the caller. */
  readonly retryable: boolean;
}

const ERROR_TABLE = {
  access_denied: { httpStatus: 403, exitCode: 1, retryable: false },
  model_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  ambiguous_match: { httpStatus: 400, exitCode: 1, retryable: false },
  validation_error: { httpStatus: 400, exitCode: 1, retryable: false },
  download_failed: { httpStatus: 503, exitCode: 1, retryable: true },
  push_operation_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  insufficient_memory: { httpStatus: 507, exitCode: 1, retryable: true },
  not_implemented: { httpStatus: 501, exitCode: 1, retryable: false },
  unsupported_multimodal: { httpStatus: 501, exitCode: 1, retryable: false },
  server_shutdown: { httpStatus: 503, exitCode: 1, retryable: true },
  internal_error: { httpStatus: 500, exitCode: 1, retryable: false },
  bad_gateway: { httpStatus: 502, exitCode: 1, retryable: true },
  gateway_timeout: { httpStatus: 504, exitCode: 1, retryable: true },
  // Of the model manager.
  health_check_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  show_operation_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  pull_operation_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  execution_error: { httpStatus: 500, exitCode: 1, retryable: false },
  deletion_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  upload_failed: { httpStatus: 503, exitCode: 1, retryable: true },
  branch_create_failed: { httpStatus: 500, exitCode: 1, retryable: false },
  cache_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  model_not_cached: { httpStatus: 404, exitCode: 1, retryable: false },
  snapshots_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  hash_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  workspace_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  repo_not_found: { httpStatus: 404, exitCode: 1, retryable: false },
  workspace_model: { httpStatus: 400, exitCode: 1, retryable: false },
  ambiguous_workspace: { httpStatus: 400, exitCode: 1, retryable: false },
  requires_confirmation: { httpStatus: 409, exitCode: 1, retryable: false },
  locks_present: { httpStatus: 409, exitCode: 1, retryable: true },
  permission_denied: { httpStatus: 403, exitCode: 1, retryable: false },
  auth_error: { httpStatus: 401, exitCode: 1, retryable: false },
  dependency_missing: { httpStatus: 501, exitCode: 1, retryable: false },
} as const satisfies Record<string, ErrorRow>;

/** Type of an error in the contract's taxonomy. */
export type ErrorCode = keyof typeof ERROR_TABLE;

/** Machine-readable facts about an error. `reason` is always there. */
export interface ErrorDetail {
  readonly reason: string;
  readonly [fact: string]: unknown;
}

/**
 * Every failure that is not a plain mistake in an argument's type or range.
 *
 * @example
 * try { await load('org/model') } catch (error) {
 *   if (error instanceof MlxkError && error.code === 'model_not_found') suggestPull()
 * }
 */
export class MlxkError extends Error {
  override readonly name = 'MlxkError';
  /** Type in the contract's taxonomy, for example `model_not_found`. */
  readonly code: ErrorCode;
  /** `reason` and, where there are any, further facts: candidates, limits, values. */
  readonly detail: ErrorDetail;

  constructor(
    code: ErrorCode,
    message: string,
    options: { reason: string; detail?: Record<string, unknown>; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = { ...options.detail, reason: options.reason };
  }

  /** The finer cause in snake_case, for example `disposed`. */
  get reason(): string {
    return this.detail.reason;
  }

  get httpStatus(): number {
    return ERROR_TABLE[this.code].httpStatus;
  }

  get exitCode(): number {
    return ERROR_TABLE[this.code].exitCode;
  }

  get retryable(): boolean {
    return ERROR_TABLE[this.code].retryable;
  }
}

/** Anything thrown, as an `Error` a caller can tell apart: native errors become `MlxkError`. */
export function fromNative(thrown: unknown): Error {
  if (thrown instanceof MlxkError) return thrown;
  if (!(thrown instanceof Error)) {
    return new MlxkError('internal_error', `unexpected failure: ${String(thrown)}`, {
      reason: 'unexpected',
      cause: thrown,
    });
  }
  // A wrong argument stays the TypeError or RangeError that JavaScript has for it.
  if (thrown instanceof TypeError || thrown instanceof RangeError) return thrown;
  const { code, reason } = thrown as Error & { code?: unknown; reason?: unknown };
  if (typeof code !== 'string' || !isErrorCode(code)) return thrown;
  return new MlxkError(code, thrown.message, {
    reason: typeof reason === 'string' ? reason : code,
    cause: thrown,
  });
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_TABLE, code);
}
