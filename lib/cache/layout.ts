/**
 * The Hugging Face cache on disk, read only: where it lies, which models are in it, which snapshot a model is at.
 * Reads any folder name as it is, broken ones too; refuses only to build a path from a name that could leave the
 * cache. Knows nothing of models, the network or the command line.
 */

import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { expandHome } from '../home.js';

const MODEL_PREFIX = 'models--';

/** Environment variables the cache's place depends on. */
export type CacheEnvironment = Readonly<Record<string, string | undefined>>;

/** One model repository in the cache. */
export interface CachedModel {
  /** `org/name`, or `name` for the few repositories without an owner. */
  readonly id: string;
  /** The repository's folder in the cache. */
  readonly folder: string;
}

/** One downloaded revision of a model. */
export interface Snapshot {
  /** Name of the folder: the 40 hexadecimal digits of the commit. */
  readonly revision: string;
  readonly folder: string;
  /** When the folder last changed, milliseconds since 1970. */
  readonly modifiedMs: number;
}

/** Folder of the model repositories: `HF_HUB_CACHE`, else `HF_HOME`/hub, else the user's cache folder. */
export function hubCacheFolder(env: CacheEnvironment = process.env): string {
  if (env.HF_HUB_CACHE) return expandHome(env.HF_HUB_CACHE);
  if (env.HF_HOME) return path.join(expandHome(env.HF_HOME), 'hub');
  const userCache = expandHome(env.XDG_CACHE_HOME || '~/.cache');
  return path.join(userCache, 'huggingface', 'hub');
}

/** `org/name` → `models--org--name`. */
export function folderNameOf(id: string): string {
  return MODEL_PREFIX + id.split('/').join('--');
}

/** `models--org--name` → `org/name`; anything else is not a model's folder. */
export function idOf(folderName: string): string | undefined {
  if (!folderName.startsWith(MODEL_PREFIX)) return undefined;
  return folderName.slice(MODEL_PREFIX.length).split('--').join('/');
}

/** Whether a name may become part of a path: an id of one or two plain segments. */
export function isRepositoryId(id: string): boolean {
  const segments = id.split('/');
  return (
    segments.length <= 2 &&
    segments.every((segment) => /^[\w.-]{1,96}$/.test(segment) && !/^\.+$/.test(segment))
  );
}

/**
 * The models of a cache folder, sorted by id; none when the folder is not there.
 *
 * @throws MlxkError `permission_denied` when it may not be read.
 */
export function cachedModels(cacheFolder: string): CachedModel[] {
  const models: CachedModel[] = [];
  for (const entry of namesInCache(cacheFolder)) {
    const id = idOf(entry);
    if (id !== undefined) models.push({ id, folder: path.join(cacheFolder, entry) });
  }
  return models.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

/** The snapshots of a model, newest first. A few system calls, which are made synchronously: see `ModelFolder`. */
export function snapshotsOf(model: CachedModel): Snapshot[] {
  const parent = path.join(model.folder, 'snapshots');
  const snapshots: Snapshot[] = [];
  for (const revision of namesIn(parent)) {
    const folder = path.join(parent, revision);
    const stats = statsOf(folder);
    if (stats?.isDirectory()) snapshots.push({ revision, folder, modifiedMs: stats.mtimeMs });
  }
  return snapshots.sort((a, b) => b.modifiedMs - a.modifiedMs);
}

/**
 * The commit a branch or tag pointed to when it was downloaded, as written under `refs/`; `undefined` when the name
 * is none or could lead out of the folder.
 */
export function refOf(model: CachedModel, name: string): string | undefined {
  const segments = name.split('/');
  if (!segments.every((part) => /^[\w.+-]{1,255}$/.test(part) && !/^\.+$/.test(part))) {
    return undefined;
  }
  try {
    return readFileSync(path.join(model.folder, 'refs', ...segments), 'utf8').trim();
  } catch {
    return undefined; // No such ref: the caller looks among the snapshots.
  }
}

/** What a path leads to; `undefined` when nothing, or nothing that can be reached. */
export function statsOf(file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined; // A loop of links, a folder that may not be entered: one broken entry hides no other.
  }
}

/** The names in a model's folder; none when it is not there or may not be read. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** A cache that does not exist is an empty one; one that may not be read is not. */
function namesInCache(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new MlxkError('permission_denied', `The cache ${folder} cannot be read: ${message}`, {
      reason: 'cache_unreadable',
      detail: { folder },
      cause,
    });
  }
}
