/**
 * Reads the small files of a model folder, bounded and with errors that name the file. Knows no model.
 */

import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from './errors.js';

/** The largest known tokenizer.json has 33 MB; config files and templates are far below. */
const MAX_FILE_BYTES = 256 * 2 ** 20;

/** What a clone has in place of a large file that was not fetched. */
const LFS_POINTER = 'version https://git-lfs.github.com/spec/';

/** Content of a file, or `undefined` when it is not there. */
export async function readOptional(folder: string, name: string): Promise<Buffer | undefined> {
  const file = path.join(folder, name);
  const stats = await stat(file).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(file, error);
  });
  if (stats === undefined) return undefined;
  if (!stats.isFile()) throw invalid(file, 'is not a file');
  if (stats.size > MAX_FILE_BYTES) {
    throw invalid(file, `has ${stats.size} bytes, more than the ${MAX_FILE_BYTES} allowed`);
  }
  const bytes = await readFile(file).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  if (bytes.subarray(0, LFS_POINTER.length).toString('latin1') === LFS_POINTER) {
    throw invalid(file, 'is a Git LFS pointer, not the file itself: fetch it with "git lfs pull"');
  }
  return bytes;
}

/** Text of a file, or `undefined` when it is not there. */
export async function readOptionalText(folder: string, name: string): Promise<string | undefined> {
  const bytes = await readOptional(folder, name);
  if (bytes === undefined) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw invalid(path.join(folder, name), 'is not UTF-8');
  }
}

/** Top-level object of a JSON file, or `undefined` when the file is not there. */
export async function readOptionalJson(
  folder: string,
  name: string,
): Promise<Record<string, unknown> | undefined> {
  const text = await readOptionalText(folder, name);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const page = /^\s*<(!doctype|html)/i.test(text)
      ? 'an HTML page, as a failed download leaves it, '
      : '';
    throw invalid(path.join(folder, name), `is ${page}not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(path.join(folder, name), 'has no JSON object at its top');
  }
  return value as Record<string, unknown>;
}

function invalid(file: string, why: string): MlxkError {
  return new MlxkError('validation_error', `${file} ${why}`, {
    reason: 'file_invalid',
    detail: { file },
  });
}

function unreadable(file: string, cause: unknown): MlxkError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const type = code === 'EACCES' || code === 'EPERM' ? 'access_denied' : 'internal_error';
  return new MlxkError(type, `${file} cannot be read: ${message}`, {
    reason: 'file_unreadable',
    detail: { file },
    cause,
  });
}
