/**
 * The health check that reads every byte: a blob of the cache is named by the hash of its content (SHA-256 for large
 * files, git's SHA-1 for small ones), so what a disk or a broken transfer did to it can be seen. Files of a workspace
 * have no hash; of its weights the headers are proved sound, which tells of files that were cut short.
 */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';

import { type LocatedModel } from './locate.js';
import { folderOf, healthOfLocated } from './model-entry.js';
import { type FolderFile, ModelFolder } from './model-folder.js';
import type { Health } from './types.js';

export interface DeepProgress {
  /** Name of the model that is read. */
  readonly model: string;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface DeepOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DeepProgress) => void;
}

export interface DeepHealth extends Health {
  /** Files that have a hash to be compared with; those of a workspace have none. */
  readonly verifiedFiles: number;
}

/** Integrity, then the content of every file whose hash is known. */
export async function deepHealth(
  located: LocatedModel,
  options: DeepOptions = {},
): Promise<DeepHealth> {
  const plain = healthOfLocated(located);
  const files = new ModelFolder(folderOf(located));
  const totalBytes = files.sizeBytes;
  let doneBytes = 0;
  let verifiedFiles = 0;
  const wrong: string[] = [];
  const unreadable: string[] = [];
  const unsound: string[] = [];
  for (const file of files.files) {
    const place = path.join(files.folder, file.name);
    const blob = await blobOf(place);
    if (blob === undefined || file.size < 0) {
      doneBytes += Math.max(0, file.size);
      if (file.size > 0 && file.name.endsWith('.safetensors'))
        unsound.push(...(await faultIn(place)));
      continue;
    }
    try {
      const found = await contentHash(blob, file, (bytes) => {
        doneBytes += bytes;
        options.onProgress?.({ model: located.name, doneBytes, totalBytes });
        options.signal?.throwIfAborted();
      });
      verifiedFiles += 1;
      if (found !== path.basename(blob)) wrong.push(file.name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
      unreadable.push(file.name);
    }
  }
  if (!plain.healthy) return { ...plain, verifiedFiles };
  const problem =
    listed('Checksum mismatch', wrong) ??
    listed('Unreadable files', unreadable) ??
    listed('Broken weights', unsound);
  return problem === undefined
    ? { ...plain, verifiedFiles }
    : { healthy: false, reason: problem, verifiedFiles };
}

function listed(what: string, names: readonly string[]): string | undefined {
  return names.length === 0 ? undefined : `${what}: ${names.join(', ')}`;
}

/** What is wrong with the header of a safetensors file, nothing or one fault. */
async function faultIn(file: string): Promise<string[]> {
  const { addon } = await import('../binding.js');
  try {
    await addon().readSafetensors(file);
    return [];
  } catch (error) {
    return [path.basename(file) + (error as Error).message.slice(file.length)];
  }
}

/** The blob a file of a snapshot links to, when its name is a hash. */
async function blobOf(file: string): Promise<string | undefined> {
  if (!(await lstat(file).catch(() => undefined))?.isSymbolicLink()) return undefined;
  const target = await realpath(file).catch(() => undefined);
  if (target === undefined) return undefined;
  return /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(path.basename(target)) ? target : undefined;
}

async function contentHash(
  blob: string,
  { size }: FolderFile,
  onRead: (bytes: number) => void,
): Promise<string> {
  const hash = hashFor(path.basename(blob), size);
  for await (const chunk of createReadStream(blob, { highWaterMark: 2 ** 20 })) {
    const bytes = chunk as Buffer;
    hash.update(bytes);
    onRead(bytes.length);
  }
  return hash.digest('hex');
}

/** https://git-scm.com/book/en/v2/Git-Internals-Git-Objects: git hashes a header with the size before the content. */
function hashFor(name: string, size: number): Hash {
  return name.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}
