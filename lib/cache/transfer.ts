/**
 * Brings the blobs of a commit, several at a time, and links the commit's files to them.
 */

import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import pLimit from 'p-limit';

import type { HubClient } from '../hub/client.js';
import { RemoteContent } from '../hub/content.js';
import { LinkedAbort } from '../hub/linked-abort.js';
import type { RemoteFile, RemoteModel } from '../hub/listing.js';
import { bringBlob, notWritable } from './blob.js';
import type { PullOptions } from './pull-types.js';
import { linkFile, linkingOrder, type RepositoryFolders, sweep } from './snapshot.js';

/** A killed download loses no more than a piece for each connection; each piece costs a request. */
const MIN_PIECE_BYTES = 2 ** 18;
const MAX_PIECE_BYTES = 16 * 2 ** 20;
const PIECES = 64;
const PARALLEL_FILES = 4;
const CONNECTIONS = 8;

export interface Transfer {
  readonly client: HubClient;
  readonly model: RemoteModel;
  /** Of the snapshot. */
  readonly files: readonly RemoteFile[];
  /** Those whose blobs are not there yet, each blob once. */
  readonly missing: readonly RemoteFile[];
  /** Blobs among them that are there and bad. */
  readonly bad: ReadonlySet<string>;
  readonly folders: RepositoryFolders;
  readonly options: PullOptions;
}

/** @returns Bytes that were fetched. */
export async function transfer(plan: Transfer): Promise<number> {
  const { client, model, files, missing, bad, folders, options } = plan;
  const progress = new Progress(plan);
  await mkdir(folders.blobs, { recursive: true }).catch((error: unknown) => {
    throw notWritable(folders.blobs, (error as Error).message, error);
  });
  const stop = new LinkedAbort(client.signal);
  const { signal } = stop;
  const connections = pLimit(options.connections ?? CONNECTIONS);
  const bring = async (file: RemoteFile): Promise<number> => {
    signal.throwIfAborted();
    const fetchedBytes = await bringBlob({
      content: new RemoteContent(client, model, file),
      replaces: bad.has(file.blob),
      folder: folders.blobs,
      lockFile: path.join(folders.locks, `${file.blob}.lock`),
      pieceBytes: options.pieceBytes ?? pieceBytesFor(file.bytes),
      connections,
      retry: client.retry,
      signal,
      onWait: () => options.onProgress?.({ type: 'waiting', file: file.path }),
      onBytes: (bytes) => {
        progress.set(file, bytes);
      },
      onRetry: ({ message }, delayMs) =>
        options.onProgress?.({ type: 'retry', file: file.path, message, delayMs }),
    });
    options.onProgress?.({ type: 'file', file: file.path, bytes: file.bytes, fetchedBytes });
    return fetchedBytes;
  };

  const parallel = pLimit(PARALLEL_FILES);
  const results = await Promise.allSettled(
    missing.map((file) =>
      parallel(async () =>
        bring(file).catch((error: unknown) => {
          stop.abort(error);
          throw error;
        }),
      ),
    ),
  );
  stop.release();
  signal.throwIfAborted();
  const snapshot = path.join(folders.snapshots, model.commit);
  for (const file of linkingOrder(files)) await linkFile(snapshot, folders.blobs, file);
  await sweep(folders.blobs, folders.locks);
  return results.reduce(
    (sum, result) => sum + (result.status === 'fulfilled' ? result.value : 0),
    0,
  );
}

function pieceBytesFor(fileBytes: number): number {
  return Math.min(MAX_PIECE_BYTES, Math.max(MIN_PIECE_BYTES, Math.ceil(fileBytes / PIECES)));
}

/** Counts what is on the disk, in bytes of files: a blob that two files share counts for both. */
class Progress {
  readonly #onProgress: PullOptions['onProgress'];
  readonly #totalBytes: number;
  readonly #users = new Map<string, number>();
  readonly #have = new Map<string, number>();
  #bytes = 0;

  constructor({ model, files, missing, options }: Transfer) {
    this.#onProgress = options.onProgress;
    this.#totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { blob } of files) this.#users.set(blob, (this.#users.get(blob) ?? 0) + 1);
    const absent = missing.reduce(
      (sum, { blob, bytes }) => sum + bytes * (this.#users.get(blob) ?? 1),
      0,
    );
    this.#bytes = this.#totalBytes - absent;
    this.#onProgress?.({
      type: 'plan',
      model: model.id,
      commit: model.commit,
      files: files.length,
      totalBytes: this.#totalBytes,
      presentBytes: this.#bytes,
    });
  }

  set(file: RemoteFile, bytes: number): void {
    this.#bytes += (bytes - (this.#have.get(file.blob) ?? 0)) * (this.#users.get(file.blob) ?? 1);
    this.#have.set(file.blob, bytes);
    this.#onProgress?.({
      type: 'progress',
      file: file.path,
      fileBytes: bytes,
      fileTotalBytes: file.bytes,
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
    });
  }
}
