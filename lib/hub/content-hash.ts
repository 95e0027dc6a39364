/**
 * The hash that names a file's blob on the hub and in the cache. Knows files only.
 */

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** A hash of the kind that `blob` is: SHA-256 of large files, Git's SHA-1 with its header of others. */
export function hashFor(blob: string, bytes: number): Hash {
  return blob.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

/** Whether a file of `bytes` has the content that `blob` names. Reads all of it. */
export async function hasContent(
  file: string,
  blob: string,
  bytes: number,
  signal: AbortSignal,
): Promise<boolean> {
  const hash = hashFor(blob, bytes);
  for await (const chunk of createReadStream(file, { signal })) hash.update(chunk as Buffer);
  return hash.digest('hex') === blob;
}
