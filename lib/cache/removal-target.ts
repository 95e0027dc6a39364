/**
 * What a name means to `rm`: a model of the cache, or one of its revisions. Refuses what is no single one of these.
 */

import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { shellQuoted } from '../shell-quote.js';
import { isWorkspace, workspaceHome, workspacesIn } from '../workspace/home.js';
import { type CacheEnvironment, type CachedModel, type Snapshot, snapshotsOf } from './layout.js';
import { ambiguous, isExact, isExplicitPath, matchCached, pathOf, splitSpec } from './locate.js';

/** Digits of a commit that are enough to tell revisions apart. */
export const SHOWN_DIGITS = 8;

/** What a name means to `rm`. */
export interface RemovalTarget {
  readonly model: CachedModel;
  /** Absent: the whole model. */
  readonly snapshot?: Snapshot;
  /** The name is not the model's, but a part of it. */
  readonly isGuess: boolean;
}

/**
 * @throws MlxkError `cache_not_found`, `model_not_found`, `ambiguous_match`, `workspace_model`, `snapshots_not_found`,
 * `hash_not_found`.
 */
export async function removalTarget(
  spec: string,
  cache: string,
  env: CacheEnvironment,
): Promise<RemovalTarget> {
  if (isExplicitPath(spec) && (await isWorkspace(pathOf(spec)))) throw workspaceModel(pathOf(spec));
  if (!(await isFolder(cache))) {
    throw new MlxkError('cache_not_found', `There is no cache at ${cache}`, {
      reason: 'cache_missing',
      detail: { folder: cache },
    });
  }
  const { name, revision } = splitSpec(spec);
  const matches = spec === '' || isExplicitPath(spec) ? [] : matchCached(name, env);
  if (matches.length === 0) {
    const home = await workspaceHome(env);
    const workspaces = home === undefined ? [] : await workspacesIn(home);
    const workspace = workspaces.find((entry) => entry.name === spec);
    if (workspace !== undefined) throw workspaceModel(workspace.folder);
    throw new MlxkError('model_not_found', `No model "${spec}" in ${cache}`, {
      reason: 'not_in_cache',
      detail: { model: spec },
    });
  }
  const found =
    revision === undefined || matches.length === 1
      ? matches
      : having(matches, revision.toLowerCase());
  const [model, ...others] = found.length === 0 ? matches : found;
  if (model === undefined || others.length > 0) {
    throw ambiguous(
      spec,
      matches.map(({ id }) => id),
    );
  }
  const isGuess = !isExact(model, name);
  if (revision === undefined) return { model, isGuess };
  return { model, isGuess, snapshot: await snapshotToRemove(model, revision) };
}

function having(models: readonly CachedModel[], digits: string): CachedModel[] {
  return models.filter((model) =>
    snapshotsOf(model).some((entry) => entry.revision.startsWith(digits)),
  );
}

async function snapshotToRemove(model: CachedModel, revision: string): Promise<Snapshot> {
  if (!(await isFolder(path.join(model.folder, 'snapshots')))) {
    throw new MlxkError('snapshots_not_found', `${model.id} has no snapshots folder`, {
      reason: 'snapshots_missing',
      detail: { model: model.id },
    });
  }
  const snapshots = snapshotsOf(model);
  const commit = (await refsOf(model)).get(revision);
  const matches = snapshots.filter((entry) =>
    commit === undefined
      ? entry.revision.startsWith(revision.toLowerCase())
      : entry.revision === commit,
  );
  if (matches.length > 1) {
    throw ambiguous(
      `${model.id}@${revision}`,
      matches.map((entry) => `${model.id}@${entry.revision}`),
    );
  }
  const [snapshot] = matches;
  if (snapshot !== undefined) return snapshot;
  throw new MlxkError('hash_not_found', `${model.id} has no revision "${revision}"`, {
    reason: 'revision_missing',
    detail: {
      model: model.id,
      available_hashes: snapshots.map((entry) => entry.revision.slice(0, SHOWN_DIGITS)),
    },
  });
}

/** Branches and tags with the commits they point to. */
export async function refsOf(model: CachedModel): Promise<Map<string, string>> {
  const folder = path.join(model.folder, 'refs');
  const found = new Map<string, string>();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const name = path.relative(folder, file).split(path.sep).join('/');
    found.set(name, (await readFile(file, 'utf8')).trim());
  }
  return found;
}

function workspaceModel(folder: string): MlxkError {
  return new MlxkError(
    'workspace_model',
    `${folder} is a workspace, not a model of the cache. To delete it: rm -rf ${shellQuoted(folder)}`,
    { reason: 'workspace', detail: { folder } },
  );
}

async function isFolder(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
}
