/**
 * The lock files of the hub's tools, `.locks/models--org--name/<hash>.lock`: which there are, and whether somebody
 * works under them. They stay behind after a download, so being there says nothing.
 */

import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

/** A download takes one lock for each file: between two files it holds none, yet is not over. */
const RECENT_MS = 60_000;

/** Folder of the locks of a repository. */
export function locksFolder(cacheFolder: string, folderName: string): string {
  return path.join(cacheFolder, '.locks', folderName);
}

/** The lock files in a folder, with their paths. */
export async function lockFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  return names
    .filter((name) => name.endsWith('.lock'))
    .sort()
    .map((name) => path.join(folder, name));
}

/** Whether any of the lock files was made or taken within the last minute. */
export async function anyRecent(files: readonly string[]): Promise<boolean> {
  const times = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  const now = Date.now();
  return times.some((stats) => stats !== undefined && now - stats.mtimeMs < RECENT_MS);
}

/** Those that somebody holds. One that may not be tried counts as free: deleting it will fail as well. */
export async function heldLocks(files: readonly string[]): Promise<string[]> {
  if (files.length === 0) return [];
  const { tryLock } = await import('./lock.js');
  const held: string[] = [];
  for (const file of files) {
    const isHeld = await tryLock(file).then(
      async (lock) => {
        await lock?.release();
        return lock === undefined;
      },
      () => false,
    );
    if (isHeld) held.push(file);
  }
  return held;
}
