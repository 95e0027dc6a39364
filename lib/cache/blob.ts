/**
 * Brings one blob into the cache: under its lock, in pieces, several at a time, hashed as it grows, named only when it
 * is whole and its hash is right. Knows nothing of snapshots.
 */

import { stat, statfs } from 'node:fs/promises';
import path from 'node:path';

import type { LimitFunction } from 'p-limit';

import { MlxkError } from '../errors.js';
import { decimalBytes } from '../format.js';
import { damaged, RangesIgnored, type RemoteContent } from '../hub/content.js';
import { PassingFailure } from '../hub/errors.js';
import { LinkedAbort } from '../hub/linked-abort.js';
import { type OnRetry, type RetryPolicy, withRetries } from '../hub/retry.js';
import { acquireLock, type Lock } from './lock.js';
import { Partial, type Piece } from './partial.js';

/** An attempt that brought less counts as one that failed, or a server could go on for ever giving next to nothing. */
const PROGRESS_BYTES = 4096;

export interface BlobJob {
  readonly content: RemoteContent;
  /** The blob that is there is bad: another is to take its place. */
  readonly replaces: boolean;
  /** The repository's folder `blobs`. */
  readonly folder: string;
  readonly lockFile: string;
  readonly pieceBytes: number;
  /** Shared by all blobs: how many requests run at once. */
  readonly connections: LimitFunction;
  readonly retry: RetryPolicy;
  readonly signal: AbortSignal;
  /** Another process has the lock, most likely fetching the same. */
  readonly onWait: () => void;
  /** Bytes that are there now; may go down when what was there turns out to be bad. */
  readonly onBytes: (haveBytes: number) => void;
  readonly onRetry: OnRetry;
}

/** Whether a blob of this length lies there under its name. */
export async function isPresent(folder: string, blob: string, bytes: number): Promise<boolean> {
  const stats = await stat(path.join(folder, blob)).catch(() => undefined);
  return stats !== undefined && stats.isFile() && stats.size === bytes;
}

/**
 * Makes sure that the blob is there.
 *
 * @returns Bytes that were fetched for it.
 * @throws MlxkError `download_failed` (reasons `hash_mismatch`, `size_mismatch`, `disk_full`, `hub_unreachable`),
 * `access_denied`, or the reason of the signal. What was fetched is kept for the next time, unless it is bad.
 */
export async function bringBlob(job: BlobJob): Promise<number> {
  const { blob, bytes } = job.content.file;
  const lock = await acquireLock(job.lockFile, job.signal, job.onWait);
  try {
    if (!job.replaces && (await isPresent(job.folder, blob, bytes))) return 0;
    return await download(job, lock);
  } catch (error) {
    throw await explained(error, job);
  } finally {
    await lock.release();
  }
}

async function download(job: BlobJob, lock: Lock): Promise<number> {
  const { folder, pieceBytes, onBytes } = job;
  const { blob, bytes } = job.content.file;
  const partial = await Partial.open({ folder, blob, bytes, pieceBytes, alone: lock.excludes });
  let keep = lock.excludes; // Nobody could take it over else.
  try {
    onBytes(partial.haveBytes);
    let fetched = await fetchMissing(job, partial);
    if (partial.resumed && (await partial.digest()) !== blob) {
      // What an earlier download left may be bad; what comes now is judged for itself.
      await partial.restart();
      onBytes(0);
      fetched += await fetchMissing(job, partial);
    }
    if ((await partial.digest()) !== blob) {
      keep = false;
      throw damaged(job.content.file, 'its hash is not the one the hub names', 'hash_mismatch');
    }
    await partial.publish(path.join(folder, blob));
    return fetched;
  } catch (error) {
    await partial.close(keep);
    throw error;
  }
}

async function fetchMissing(job: BlobJob, partial: Partial): Promise<number> {
  try {
    return await fetchPieces(job, partial);
  } catch (error) {
    if (!(error instanceof RangesIgnored)) throw error;
    await partial.restart(partial.options.bytes);
    job.onBytes(0);
    return await fetchPieces(job, partial).catch((again: unknown) => {
      if (!(again instanceof RangesIgnored)) throw again;
      throw damaged(
        job.content.file,
        'it broke off, and the server sends whole files only',
        'no_ranges',
      );
    });
  }
}

async function fetchPieces(job: BlobJob, partial: Partial): Promise<number> {
  const failing = new LinkedAbort(job.signal);
  const { signal } = failing;
  let fetched = 0;
  const fetches = partial.missing().map((piece) =>
    job.connections(async () => {
      if (signal.aborted) return;
      await withRetries(
        async (progressed) => {
          let come = 0;
          await fetchPiece(job, partial, piece, signal, (count) => {
            fetched += count;
            come += count;
            if (come >= PROGRESS_BYTES) progressed();
          });
        },
        job.retry,
        signal,
        job.onRetry,
      ).catch((error: unknown) => {
        failing.abort(error);
      });
    }),
  );
  await Promise.all(fetches); // All of them, so that none writes into a file that is closed.
  failing.release();
  signal.throwIfAborted();
  return fetched;
}

/** The rest of a piece, as far as it comes. */
async function fetchPiece(
  { content, onBytes }: BlobJob,
  partial: Partial,
  { index }: Piece,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<void> {
  const piece = partial.missing().find((missing) => missing.index === index);
  if (piece === undefined) return;
  let left = piece.end - piece.start;
  for await (const chunk of await content.open(piece.start, piece.end, signal)) {
    signal.throwIfAborted();
    if (chunk.length > left)
      throw damaged(content.file, 'more came than was promised', 'size_mismatch');
    await partial.write(index, chunk);
    left -= chunk.length;
    onProgress(chunk.length);
    onBytes(partial.haveBytes);
  }
  if (left > 0) throw new PassingFailure(`${content.file.path} ended ${left} bytes early`);
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');
}

/** Failures of the file system, with what would help. */
async function explained(error: unknown, { folder, content }: BlobJob): Promise<unknown> {
  const { code, message } = error as NodeJS.ErrnoException;
  const { path: name, bytes } = content.file;
  if (isFull(error)) return diskFull(folder, bytes, (await freeBytes(folder)) ?? 0, error);
  if (code === 'EFBIG') {
    return new MlxkError(
      'download_failed',
      `${folder} cannot hold a file as large as ${name}: ${bytes} bytes`,
      { reason: 'file_too_large', detail: { folder, file: name, bytes }, cause: error },
    );
  }
  return code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
    ? notWritable(folder, message, error)
    : error;
}

/** Bytes that this user may still write below a folder, or below the nearest one that is there. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const stats = await statfs(at).catch(() => undefined);
    if (stats !== undefined) return stats.bavail * stats.bsize;
    if (at === path.dirname(at)) return undefined;
  }
}

export function diskFull(
  folder: string,
  neededBytes: number,
  free: number,
  cause?: unknown,
): MlxkError {
  return new MlxkError(
    'download_failed',
    `not enough room in ${folder}: ${decimalBytes(neededBytes)} are needed, ${decimalBytes(free)} are free; ` +
      '"mlxk rm" deletes models',
    {
      reason: 'disk_full',
      detail: { folder, needed_bytes: neededBytes, free_bytes: free },
      ...(cause !== undefined && { cause }),
    },
  );
}

export function notWritable(folder: string, message: string, cause: unknown): MlxkError {
  return new MlxkError('permission_denied', `${folder} cannot be written to: ${message}`, {
    reason: 'cache_not_writable',
    detail: { folder },
    cause,
  });
}
