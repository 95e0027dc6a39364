/**
 * Copies the files of a model folder, folders below it included. Links are followed and written as files, but none
 * that leads out of the folder it is trusted in. Blocks are shared with the source where the file system can.
 */

import { constants } from 'node:fs';
import { copyFile, link, mkdir, readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { Exclusions } from './exclusions.js';

export interface FileToCopy {
  /** Relative to both folders. */
  readonly name: string;
  /** The file itself, links followed. */
  readonly from: string;
  readonly bytes: number;
}

/**
 * The files below a folder that belong to a model: no tools' and no sentinel.
 *
 * @param trusted folder that links may lead to; the folder itself unless given
 * @throws MlxkError `validation_error` / `link_outside` for a link that leaves it or leads nowhere.
 */
export async function filesToCopy(folder: string, trusted = folder): Promise<FileToCopy[]> {
  const root = await realpath(trusted);
  const exclusions = new Exclusions();
  const found: FileToCopy[] = [];
  const open = [''];
  for (let below = open.pop(); below !== undefined; below = open.pop()) {
    const entries = await readdir(path.join(folder, below), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const name = path.join(below, entry.name);
      if (entry.isDirectory()) {
        if (!exclusions.folder(entry.name)) open.push(name);
      } else if ((entry.isFile() || entry.isSymbolicLink()) && !exclusions.file(entry.name)) {
        found.push(await fileAt(folder, name, root));
      }
    }
  }
  return found;
}

async function fileAt(folder: string, name: string, root: string): Promise<FileToCopy> {
  const file = path.join(folder, name);
  const from = await realpath(file).catch(() => undefined);
  const stats = from === undefined ? undefined : await stat(from);
  const inside = from?.startsWith(root + path.sep) === true;
  if (from === undefined || stats?.isFile() !== true || !inside) {
    throw new MlxkError('validation_error', `${file} leads to no file inside ${root}`, {
      reason: 'link_outside',
      detail: { file },
    });
  }
  return { name, from, bytes: stats.size };
}

export interface CopyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (bytes: number) => void;
  /** The source is deleted afterwards: a file may take its bytes over instead of doubling them. */
  readonly take?: boolean;
}

/** @throws the signal's reason when aborted; a file is whole or not begun then. */
export async function copyFiles(
  files: readonly FileToCopy[],
  target: string,
  { signal, onBytes, take = false }: CopyOptions = {},
): Promise<void> {
  // Two names of the same blob must not become one file: to edit one would change the other.
  const taken = new Set<string>();
  for (const { name, from, bytes } of files) {
    signal?.throwIfAborted();
    const to = path.join(target, name);
    await mkdir(path.dirname(to), { recursive: true });
    const took = take && !taken.has(from) && (await isLinked(from, to));
    if (took) taken.add(from);
    else await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    onBytes?.(bytes);
  }
}

/** Whether `to` became another name of the file; not every file system can. */
async function isLinked(from: string, to: string): Promise<boolean> {
  return await link(from, to).then(
    () => true,
    () => false,
  );
}
