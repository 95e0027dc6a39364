/**
 * `rm`: takes a model, or one revision of it, out of the cache, with its lock files and the blobs that nothing else
 * refers to. Workspaces are the user's own folders and never touched.
 */

import { lstat, readdir, readlink, rm } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { decimalBytes } from '../format.js';
import { check, checkOptions, FLAG, MEMBERS, TEXT } from './arguments.js';
import { health } from './health.js';
import {
  type CacheEnvironment,
  type CachedModel,
  hubCacheFolder,
  type Snapshot,
  snapshotsOf,
} from './layout.js';
import { TEST_SENTINEL } from './list.js';
import { currentSnapshot } from './locate.js';
import { anyRecent, heldLocks, lockFiles, locksFolder } from './lock-files.js';
import { refsOf, removalTarget, SHOWN_DIGITS } from './removal-target.js';

/** A download that goes on meanwhile may put a file into a folder that was just emptied. */
const DELETION = { recursive: true, force: true, maxRetries: 5, retryDelay: 20 } as const;

export interface RemoveOptions {
  /** Also when the name is only a part of the model's, and when somebody seems to be downloading it. */
  readonly force?: boolean;
  readonly env?: CacheEnvironment;
}

export interface RemoveResult {
  /** Hub id. */
  readonly model: string;
  /** `requires_confirmation`: the name is a part of this model's only, and nothing was deleted. */
  readonly action: 'deleted' | 'requires_confirmation';
  readonly message: string;
  readonly freedBytes: number;
  readonly lockFilesCleaned: number;
  /** Commit of the one revision that was deleted. */
  readonly commitHash?: string;
}

/**
 * Removes a model from the cache: all of it, or one revision for `name@revision`.
 *
 * @throws TypeError naming a wrong argument; MlxkError `cache_not_found`, `model_not_found`, `ambiguous_match`,
 * `workspace_model`, `locks_present`, `snapshots_not_found`, `hash_not_found`, `permission_denied`, `deletion_failed`.
 *
 * @example
 * const { freedBytes } = await cache.remove('org/model')
 */
export async function remove(spec: string, options: RemoveOptions = {}): Promise<RemoveResult> {
  check('spec', spec, TEXT);
  checkOptions(options, { force: FLAG, env: MEMBERS });
  const env = options.env ?? process.env;
  const force = options.force ?? false;
  const cache = hubCacheFolder(env);
  const { model, snapshot, isGuess } = await removalTarget(spec, cache, env);
  if (isGuess && !force) {
    return {
      model: model.id,
      action: 'requires_confirmation',
      message: `"${spec}" is a part of ${model.id}; nothing was deleted. Use --force, or its full name`,
      freedBytes: 0,
      lockFilesCleaned: 0,
    };
  }
  const locks = locksFolder(cache, path.basename(model.folder));
  if (!force) await refuseDownloading(model, locks);
  await refuseOutsideTests(cache, env);
  try {
    return snapshot === undefined
      ? await removeModel(model, locks)
      : await removeRevision(model, snapshot, locks);
  } catch (error) {
    throw deletionError(model, error);
  }
}

/** Refuses while a download seems to run: a lock is held, or was just taken and the model is not whole yet. */
async function refuseDownloading(model: CachedModel, locks: string): Promise<void> {
  const files = await lockFiles(locks);
  const held = await heldLocks(files);
  const active = held.length > 0 ? held : (await isBetweenFiles(model, files)) ? files : [];
  if (active.length === 0) return;
  throw new MlxkError(
    'locks_present',
    `${model.id} seems to be downloading: ${active.length} lock file(s) are in use. ` +
      'Use --force to delete it nevertheless',
    { reason: 'locks_in_use', detail: { model: model.id, lock_files: active } },
  );
}

async function isBetweenFiles(model: CachedModel, locks: readonly string[]): Promise<boolean> {
  if (!(await anyRecent(locks))) return false;
  const snapshot = currentSnapshot(model);
  return snapshot === undefined || !health(snapshot.folder).healthy;
}

/** What a test suite sets, so that it cannot delete from somebody's own cache. */
async function refuseOutsideTests(cache: string, env: CacheEnvironment): Promise<void> {
  if (env.MLXK2_STRICT_TEST_DELETE !== '1' || cache.includes(TEST_SENTINEL)) return;
  const names = await readdir(cache).catch(() => []);
  if (names.some((name) => name.includes(TEST_SENTINEL))) return;
  throw new MlxkError(
    'permission_denied',
    `MLXK2_STRICT_TEST_DELETE=1 forbids deleting from ${cache}: it has no ${TEST_SENTINEL}`,
    { reason: 'not_a_test_cache', detail: { folder: cache } },
  );
}

async function removeModel(model: CachedModel, locks: string): Promise<RemoveResult> {
  const freedBytes = await diskBytes(model.folder);
  const lockFilesCleaned = (await lockFiles(locks)).length;
  await rm(model.folder, DELETION);
  await rm(locks, DELETION);
  return {
    model: model.id,
    action: 'deleted',
    message: `Deleted ${model.id}, all revisions; freed ${decimalBytes(freedBytes)}`,
    freedBytes,
    lockFilesCleaned,
  };
}

async function removeRevision(
  model: CachedModel,
  snapshot: Snapshot,
  locks: string,
): Promise<RemoveResult> {
  const kept = snapshotsOf(model).filter(({ revision }) => revision !== snapshot.revision);
  if (kept.length === 0) {
    return { ...(await removeModel(model, locks)), commitHash: snapshot.revision };
  }
  const before = await diskBytes(model.folder);
  const used = new Set((await Promise.all(kept.map(({ folder }) => blobsOf(folder)))).flat());
  const unused = (await blobsOf(snapshot.folder)).filter((blob) => !used.has(blob));
  await removeRefs(model, snapshot.revision);
  await rm(snapshot.folder, { recursive: true, force: true });
  await rm(path.join(model.folder, '.no_exist', snapshot.revision), {
    recursive: true,
    force: true,
  });
  const lockNames = new Set(unused.map((blob) => `${blob}.lock`));
  const cleaned = (await lockFiles(locks)).filter((file) => lockNames.has(path.basename(file)));
  for (const blob of unused) await rm(path.join(model.folder, 'blobs', blob), { force: true });
  for (const file of cleaned) await rm(file, { force: true });
  const freedBytes = before - (await diskBytes(model.folder));
  const digits = snapshot.revision.slice(0, SHOWN_DIGITS);
  return {
    model: model.id,
    action: 'deleted',
    message:
      `Deleted revision ${digits} of ${model.id}; freed ${decimalBytes(freedBytes)}; ` +
      `${kept.length} other revision(s) kept`,
    freedBytes,
    lockFilesCleaned: cleaned.length,
    commitHash: snapshot.revision,
  };
}

/** Names of the blobs that a snapshot's links lead to. */
async function blobsOf(folder: string): Promise<string[]> {
  const blobs: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    const target = await readlink(path.join(entry.parentPath, entry.name));
    if (path.basename(path.dirname(target)) === 'blobs') blobs.push(path.basename(target));
  }
  return [...new Set(blobs)].filter((blob) => !/^\.*$/.test(blob));
}

async function removeRefs(model: CachedModel, commit: string): Promise<void> {
  for (const [name, target] of await refsOf(model)) {
    if (target === commit) await rm(path.join(model.folder, 'refs', name), { force: true });
  }
}

/** Bytes of the files below a folder, links not followed; what vanishes meanwhile has none. */
async function diskBytes(folder: string): Promise<number> {
  const own = await lstat(folder).catch(() => undefined);
  if (!own?.isDirectory()) return own?.isFile() ? own.size : 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async (entry) => {
    if (!entry.isFile()) return 0;
    const stats = await lstat(path.join(entry.parentPath, entry.name)).catch(() => undefined);
    return stats?.size ?? 0;
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

function deletionError(model: CachedModel, error: unknown): Error {
  if (error instanceof MlxkError) return error;
  const { code, message, path: file } = error as NodeJS.ErrnoException;
  const isDenied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  return new MlxkError(
    isDenied ? 'permission_denied' : 'deletion_failed',
    `${model.id} cannot be deleted: ${message}`,
    {
      reason: isDenied ? 'permission_denied' : 'deletion_failed',
      detail: { model: model.id, ...(file !== undefined && { file }) },
      cause: error,
    },
  );
}
