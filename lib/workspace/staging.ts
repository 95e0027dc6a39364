/**
 * Makes a folder whole or not at all: it is filled under a temporary name beside its place and renamed at the end.
 * What a process left behind that was killed meanwhile is removed by the next one that works there.
 */

import type { Stats } from 'node:fs';
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { decimalBytes } from '../format.js';

const PREFIX = '.mlxk_making_';
/** Names the machine whose process fills the folder; removed at the end, and no part of a content hash. */
const OWNER_FILE = '.mlxk_making.lock';

/** Absolute path of a folder that need not exist yet, links in its parents followed. */
export async function realTarget(target: string): Promise<string> {
  const absolute = path.resolve(target);
  const existing = await realpath(absolute).catch(() => undefined);
  if (existing !== undefined) return existing;
  const parent = await realpath(path.dirname(absolute)).catch(() => undefined);
  return parent === undefined ? absolute : path.join(parent, path.basename(absolute));
}

/**
 * What stands where a folder is to be made, if anything does.
 *
 * @throws MlxkError `validation_error` for a place that can never hold one: a name that is empty or too long, a link
 * that leads nowhere. It would else be found out after all the work.
 */
export async function occupantOf(target: string, spec: string): Promise<Stats | undefined> {
  const refusal = (why: string): MlxkError =>
    new MlxkError('validation_error', `Target path ${why}: ${spec}`, {
      reason: 'target_invalid',
      detail: { target },
    });
  if (spec === '') throw refusal('is empty');
  try {
    await lstat(target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') throw refusal('is too long');
    return undefined;
  }
  const stats = await stat(target).catch(() => undefined);
  if (stats === undefined) throw refusal('is a link that leads nowhere');
  return stats;
}

/**
 * Fills a folder by `fill` and moves it to `target`, which must not exist or be empty.
 *
 * @throws what `fill` throws, after everything it made was removed.
 */
export async function makeFolder(
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  const parent = path.dirname(target);
  await removeLeftovers(parent);
  const folder = path.join(parent, `${PREFIX}${process.pid}_${Date.now().toString(36)}`);
  await mkdir(folder);
  try {
    await writeFile(path.join(folder, OWNER_FILE), os.hostname());
    await fill(folder);
    await rm(path.join(folder, OWNER_FILE));
    await rename(folder, target);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** @throws MlxkError `internal_error` / `disk_full` when less than `bytes` are free beside `target`. */
export async function requireSpace(target: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path.dirname(target));
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new MlxkError(
    'internal_error',
    `${path.dirname(target)} has ${decimalBytes(free)} free, ${decimalBytes(bytes)} are needed`,
    { reason: 'disk_full', detail: { free_bytes: free, needed_bytes: bytes } },
  );
}

async function removeLeftovers(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const pid = Number(new RegExp(`^\\${PREFIX}(\\d+)_`).exec(name)?.[1] ?? 0);
    if (pid === 0 || pid === process.pid || isRunning(pid)) continue;
    const folder = path.join(parent, name);
    const owner = await ownerOf(folder);
    if (owner === os.hostname()) await rm(folder, { recursive: true, force: true });
  }
}

async function ownerOf(folder: string): Promise<string | undefined> {
  return await readFile(path.join(folder, OWNER_FILE), 'utf8').catch(() => undefined);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
