/**
 * Failures of the file system as errors of this library: with a code and a reason, whatever call they came from.
 */

import { MlxkError } from './errors.js';

const DENIED = ['EACCES', 'EPERM', 'EROFS'];
const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/**
 * The typed error for a failed system call: `permission_denied`, or `internal_error` with reason `disk_full` or
 * `file_system`. Anything else is given back as it is.
 */
export function typedFileError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof MlxkError) return error;
  const { code, syscall, path: file } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  const isDenied = DENIED.includes(code);
  const reason = isDenied ? 'permission_denied' : FULL.includes(code) ? 'disk_full' : 'file_system';
  return new MlxkError(isDenied ? 'permission_denied' : 'internal_error', error.message, {
    reason,
    detail: { system_code: code, ...(file !== undefined && { file }) },
    cause: error,
  });
}
