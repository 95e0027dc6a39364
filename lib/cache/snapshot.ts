/**
 * Links the files of a commit to their blobs, so that other tools find them, and notes what a branch points to. Each
 * step is one rename; `config.json` comes last, so that a snapshot that is not whole is never taken for a model.
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  copyFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';

import type { RemoteFile } from '../hub/listing.js';
import { acquireLock, tryLock } from './lock.js';

const LAST = 'config.json';
const INCOMPLETE = '.incomplete';
/** Stands where else the name of a blob does. */
const REF = 'ref';
/** What marks a folder of things that can be had again, for backup programs (bford.info/cachedir). */
const CACHE_TAG =
  'Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of the Hugging Face hub.\n';

export interface RepositoryFolders {
  readonly blobs: string;
  readonly snapshots: string;
  readonly refs: string;
  /** Of this repository's locks. */
  readonly locks: string;
}

export function foldersOf(cacheFolder: string, folderName: string): RepositoryFolders {
  const repository = path.join(cacheFolder, folderName);
  return {
    blobs: path.join(repository, 'blobs'),
    snapshots: path.join(repository, 'snapshots'),
    refs: path.join(repository, 'refs'),
    locks: path.join(cacheFolder, '.locks', folderName),
  };
}

/** The order in which files may appear in a snapshot. */
export function linkingOrder(files: readonly RemoteFile[]): RemoteFile[] {
  return [...files].sort((a, b) => Number(a.path === LAST) - Number(b.path === LAST));
}

/** Whether the snapshot has the file already, as a link to its blob or as a file of its own. */
export async function isLinked(
  snapshot: string,
  blobs: string,
  file: RemoteFile,
): Promise<boolean> {
  const pointer = path.join(snapshot, file.path);
  const stats = await stat(pointer).catch(() => undefined);
  if (stats?.isFile() !== true || stats.size !== file.bytes) return false;
  const target = await readlink(pointer).catch(() => undefined);
  if (target === undefined) return true; // A copy, where links are not supported.
  return path.resolve(path.dirname(pointer), target) === path.join(blobs, file.blob);
}

/** Makes the snapshot's file the blob. What was linked by then is never without a file in between. */
export async function linkFile(snapshot: string, blobs: string, file: RemoteFile): Promise<void> {
  if (await isLinked(snapshot, blobs, file)) return;
  const pointer = path.join(snapshot, file.path);
  const blob = path.join(blobs, file.blob);
  const target = path.relative(path.dirname(pointer), blob);
  await mkdir(path.dirname(pointer), { recursive: true });
  try {
    await symlink(target, pointer);
    return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST' && code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS')
      throw error;
    if (await isLinked(snapshot, blobs, file)) return; // By another process.
  }
  const temporary = temporaryIn(blobs, file.blob);
  await symlink(target, temporary).catch(() =>
    copyFile(blob, temporary, constants.COPYFILE_FICLONE),
  );
  await rename(temporary, pointer).catch(async (error: unknown) => {
    // Another process sweeps such files away once it has linked its own.
    if (!(await isLinked(snapshot, blobs, file))) throw error;
  });
}

/** Notes which commit a branch or tag stood for. */
export async function writeRef(
  { refs, blobs, locks }: RepositoryFolders,
  name: string,
  commit: string,
  signal: AbortSignal,
): Promise<void> {
  const file = path.join(refs, ...name.split('/'));
  if ((await readFile(file, 'utf8').catch(() => undefined)) === commit) return;
  await mkdir(path.dirname(file), { recursive: true });
  const lock = await acquireLock(path.join(locks, `${REF}.lock`), signal);
  try {
    await sweep(blobs, locks, REF);
    const temporary = temporaryIn(blobs, REF);
    await writeFile(temporary, commit, { flag: 'wx' });
    await rename(temporary, file);
  } finally {
    await lock.release();
  }
}

/** Where a killed process may leave a file: what lies there is looked through by the next one. */
function temporaryIn(blobs: string, name: string): string {
  return path.join(blobs, `${name}.${randomBytes(4).toString('hex')}${INCOMPLETE}`);
}

/**
 * Partial files of blobs that came another way, for example from another process, are of no use any more; nor is a
 * half-written ref, for whoever holds the lock `held`.
 */
export async function sweep(blobs: string, locks: string, held?: string): Promise<void> {
  for (const file of await readdir(blobs)) {
    if (!file.endsWith(INCOMPLETE)) continue;
    const name = file.split('.', 1)[0] ?? '';
    const gone = (): Promise<void> => unlink(path.join(blobs, file)).catch(() => undefined);
    if (name === held) {
      await gone();
      continue;
    }
    const arrived = await stat(path.join(blobs, name)).catch(() => undefined);
    if (name !== REF && arrived === undefined) continue;
    const lock = await tryLock(path.join(locks, `${name}.lock`)).catch(() => undefined);
    if (lock?.excludes === true) await gone();
    await lock?.release();
  }
}

export async function tagCache(cacheFolder: string): Promise<void> {
  const file = path.join(cacheFolder, 'CACHEDIR.TAG');
  await writeFile(file, CACHE_TAG, { flag: 'wx' }).catch(() => undefined); // There, or not wanted there.
}
