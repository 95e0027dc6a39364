/**
 * What a push would change: the files of a workspace beside those of a branch, compared by the hashes the hub names
 * them by. Uploads nothing.
 */

import { hasContent } from '../hub/content-hash.js';
import type { RemoteFile } from '../hub/listing.js';
import type { LocalFile } from './files.js';

export interface PushPlan {
  readonly added: readonly LocalFile[];
  readonly modified: readonly LocalFile[];
  /** On the hub only. A push leaves them there unless it is told to delete. */
  readonly remoteOnly: readonly string[];
}

export async function planPush(
  local: readonly LocalFile[],
  remote: readonly RemoteFile[],
  signal: AbortSignal,
): Promise<PushPlan> {
  const known = new Map(remote.map((file) => [file.path, file]));
  const here = new Set(local.map((file) => file.path));
  const modified: LocalFile[] = [];
  for (const file of local) {
    const there = known.get(file.path);
    if (there !== undefined && !(await isSame(file, there, signal))) modified.push(file);
  }
  return {
    added: local.filter((file) => !known.has(file.path)),
    modified,
    remoteOnly: remote.map((file) => file.path).filter((name) => !here.has(name)),
  };
}

async function isSame(local: LocalFile, remote: RemoteFile, signal: AbortSignal): Promise<boolean> {
  if (local.bytes !== remote.bytes) return false;
  return await hasContent(local.file, remote.blob, remote.bytes, signal);
}
