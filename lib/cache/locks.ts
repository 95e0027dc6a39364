/**
 * The lock files of the hub's tools, `.locks/models--org--name/<hash>.lock`, read only: which there are, and whether
 * somebody works under them. They stay behind after a download, so being there says nothing.
 */

import { execFile } from 'node:child_process';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/**
 * A download takes one lock for each file: between two files it holds none, yet is not over. Taking a lock truncates
 * its file, which moves the time of change.
 */
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

/** Whether any of the lock files was taken within the last minute. */
export async function anyRecent(files: readonly string[]): Promise<boolean> {
  const times = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  const now = Date.now();
  return times.some((stats) => stats !== undefined && now - stats.mtimeMs < RECENT_MS);
}

/** Files that a process has locked, as far as this system tells. */
export async function heldLocks(files: readonly string[]): Promise<string[]> {
  if (files.length === 0) return [];
  const held = await (process.platform === 'linux' ? heldOnLinux(files) : openElsewhere(files));
  return files.filter((file) => held.has(file));
}

/** Lines such as `1: FLOCK  ADVISORY  WRITE 4242 08:01:1179650 0 EOF`: device (major, minor in hex) and inode. */
async function heldOnLinux(files: readonly string[]): Promise<Set<string>> {
  const table = await readFile('/proc/locks', 'utf8').catch(() => '');
  const inodes = new Set([...table.matchAll(/ [0-9a-f]+:[0-9a-f]+:(\d+) /g)].map((m) => m[1]));
  const held = new Set<string>();
  for (const file of files) {
    // The device is left out: overlay file systems report another one. A like-named inode only makes `rm` ask.
    const stats = await stat(file, { bigint: true }).catch(() => undefined);
    if (stats !== undefined && inodes.has(String(stats.ino))) held.add(file);
  }
  return held;
}

/** Where the kernel has no such table, a lock file that a process has open counts as locked by it. */
async function openElsewhere(files: readonly string[]): Promise<Set<string>> {
  // lsof exits with 1 when a file is open nowhere, which is the usual case.
  const output = await promisify(execFile)('lsof', ['-F', 'n', '--', ...files]).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const open = new Set(output.split('\n').map((line) => line.slice(1)));
  return new Set(files.filter((file) => open.has(file)));
}
