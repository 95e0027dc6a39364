/**
 * From what a user calls a model to the folder it lies in: `builtin`, a path, a hub id, a unique part of one,
 * `id@revision`. Read only and without network: a model that is not here is an error with the next step.
 */

import { stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { packageRoot } from '../package-info.js';
import {
  type CacheEnvironment,
  type CachedModel,
  cachedModels,
  expandHome,
  hubCacheFolder,
  isRepositoryId,
  refOf,
  type Snapshot,
  snapshotsOf,
} from './layout.js';

/** Name of the model that comes with the package. */
export const BUILTIN = 'builtin';
/** Owner that a name without one is tried with first. */
const USUAL_OWNER = 'mlx-community';
/** Candidates an ambiguity names in its sentence; all of them are in its detail. */
const CANDIDATES_SHOWN = 10;
/** Fewer digits of a commit could as well be a branch's name. */
const SHORTEST_HASH = 4;

/** A model found on this machine. */
export interface ResolvedModel {
  /** Hub id, `builtin`, or the folder's path. */
  readonly name: string;
  readonly folder: string;
  /** Commit of the snapshot; absent outside the cache. */
  readonly revision?: string;
}

/**
 * Finds the folder of a model.
 *
 * @param spec `builtin`; a folder; `org/name`; a part of it that fits one cached model only; any of these names with
 * `@` and a branch, tag or the first digits of a commit.
 * @throws MlxkError `model_not_found`, or `ambiguous_match` with `detail.matches`.
 */
export async function resolveModel(
  spec: string,
  env: CacheEnvironment = process.env,
): Promise<ResolvedModel> {
  if (spec === BUILTIN) return resolveBuiltin();
  if (isPath(spec)) return resolveFolder(spec);

  const { name, revision } = splitRevision(spec);
  if (name === '' && revision === undefined) throw notFound(spec, hubCacheFolder(env));
  const cache = hubCacheFolder(env);
  const models = await cachedModels(cache);
  const exact = models.find(({ id }) => id === name || id === `${USUAL_OWNER}/${name}`);
  if (exact !== undefined) return resolveSnapshot(exact, revision);

  const part = name.toLowerCase();
  const candidates = models.filter(({ id }) => id.toLowerCase().includes(part));
  const matches = revision === undefined ? candidates : await having(candidates, revision);
  const [match, ...others] = matches;
  if (others.length > 0) throw ambiguous(spec, matches);
  if (match !== undefined) return resolveSnapshot(match, revision);
  if (await isFolder(spec)) return resolveFolder(spec);
  throw notFound(spec, cache);
}

/** Whether a name can only mean a path: it is absolute or starts with `.` or `~`. */
function isPath(spec: string): boolean {
  return path.isAbsolute(spec) || /^(\.{1,2}|~)([/\\]|$)/.test(spec);
}

/** Whether a text was meant as a model's name, not as a prompt: a path, or one word with a slash in it. */
export function looksLikeModel(spec: string): boolean {
  if (isPath(spec)) return !/\s/.test(spec);
  return spec.includes('/') && isRepositoryId(splitRevision(spec).name);
}

/** Split at the last `@`: owners and names have none. */
function splitRevision(spec: string): { name: string; revision?: string } {
  const at = spec.lastIndexOf('@');
  if (at < 0 || at === spec.length - 1) return { name: spec };
  return { name: spec.slice(0, at), revision: spec.slice(at + 1) };
}

async function resolveBuiltin(): Promise<ResolvedModel> {
  const folder = path.join(packageRoot, 'builtin');
  if (!(await isFolder(folder))) {
    throw new MlxkError('model_not_found', `the built-in model is missing from ${packageRoot}`, {
      reason: 'builtin_missing',
    });
  }
  return { name: BUILTIN, folder };
}

async function resolveFolder(spec: string): Promise<ResolvedModel> {
  const folder = path.resolve(expandHome(spec));
  if (!(await isFolder(folder))) {
    throw new MlxkError('model_not_found', `there is no model folder at ${folder}`, {
      reason: 'folder_missing',
      detail: { folder },
    });
  }
  return { name: folder, folder };
}

async function resolveSnapshot(model: CachedModel, revision?: string): Promise<ResolvedModel> {
  const snapshot = await snapshotAt(model, revision);
  if (snapshot === undefined) {
    const what = revision === undefined ? 'no complete snapshot' : `no revision "${revision}"`;
    throw new MlxkError('model_not_found', `${model.id} is in the cache, but ${what} of it is`, {
      reason: revision === undefined ? 'snapshot_missing' : 'revision_missing',
      detail: {
        model: model.id,
        available_hashes: (await snapshotsOf(model)).map((entry) => entry.revision),
      },
    });
  }
  return { name: model.id, folder: snapshot.folder, revision: snapshot.revision };
}

/** A ref of that name, else a commit that starts with it; without one `main`, else the newest snapshot. */
async function snapshotAt(model: CachedModel, revision?: string): Promise<Snapshot | undefined> {
  const snapshots = await snapshotsOf(model);
  const commit = await refOf(model, revision ?? 'main');
  const referred = snapshots.find((snapshot) => snapshot.revision === commit);
  if (referred !== undefined) return referred;
  if (revision === undefined) return snapshots[0];
  const prefix = revision.toLowerCase();
  if (prefix.length < SHORTEST_HASH) return undefined;
  return snapshots.find((snapshot) => snapshot.revision.startsWith(prefix));
}

async function having(models: readonly CachedModel[], revision: string): Promise<CachedModel[]> {
  const found = await Promise.all(models.map((model) => snapshotAt(model, revision)));
  return models.filter((_, index) => found[index] !== undefined);
}

async function isFolder(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
}

function ambiguous(spec: string, models: readonly CachedModel[]): MlxkError {
  const matches = models.map(({ id }) => id);
  const more =
    matches.length > CANDIDATES_SHOWN ? `, and ${matches.length - CANDIDATES_SHOWN} more` : '';
  return new MlxkError(
    'ambiguous_match',
    `Ambiguous model specification "${spec}". Could be: ` +
      `${matches.slice(0, CANDIDATES_SHOWN).join(', ')}${more}`,
    { reason: 'ambiguous_name', detail: { matches } },
  );
}

function notFound(spec: string, cache: string): MlxkError {
  const next =
    isRepositoryId(spec) && spec.includes('/')
      ? `Download it into the cache first (hf download ${spec}), or give its folder`
      : `Give a cached hub id, a unique part of one, a folder, or "${BUILTIN}"`;
  return new MlxkError('model_not_found', `Model "${spec}" not found in ${cache}. ${next}.`, {
    reason: 'not_in_cache',
    detail: { model: spec },
  });
}
