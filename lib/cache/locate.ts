/**
 * From what a user calls a model to where it lies: a workspace by its path or its name in the workspace home, a model
 * of the cache by its id, a part of it, or either with `@` and a branch, tag or the first digits of a commit.
 * Every command and `load` ask here, so that a name means the same everywhere. Reads only, and never the network.
 */

import path from 'node:path';

import { MlxkError } from '../errors.js';
import { expandHome } from '../home.js';
import { packageRoot } from '../package-info.js';
import { visibleLine } from '../visible.js';
import { isWorkspace, workspaceHome, workspacesIn } from '../workspace/home.js';
import {
  type CacheEnvironment,
  type CachedModel,
  cachedModels,
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

/** A model repository of the cache, and the revision asked for or found to be the current one. */
export interface LocatedInCache {
  readonly kind: 'cache';
  /** Hub id. */
  readonly name: string;
  readonly model: CachedModel;
  /** Absent for a repository without any snapshot. */
  readonly snapshot: Snapshot | undefined;
}

interface LocatedWorkspace {
  readonly kind: 'workspace';
  /** Absolute path, or `builtin`. */
  readonly name: string;
  readonly folder: string;
}

export type LocatedModel = LocatedInCache | LocatedWorkspace;

/** A spec taken apart at its last `@`: owners and names have none. */
export interface SplitSpec {
  readonly name: string;
  /** Branch, tag or the first digits of a commit. */
  readonly revision?: string;
}

export function splitSpec(spec: string): SplitSpec {
  const at = spec.lastIndexOf('@');
  if (at < 0 || at === spec.length - 1) return { name: spec };
  return { name: spec.slice(0, at), revision: spec.slice(at + 1) };
}

/** Whether a spec can only mean a path: it is absolute or starts with `.` or `~`. */
export function isExplicitPath(spec: string): boolean {
  return path.isAbsolute(spec) || /^(\.{1,2}|~)([/\\]|$)/.test(spec);
}

/** Absolute path of a spec that is one. */
export function pathOf(spec: string): string {
  return path.resolve(expandHome(spec));
}

/**
 * Finds a model of this machine.
 *
 * Exact names come first: of the workspace home, then of the cache. A part of a name has to fit one model only.
 *
 * @throws MlxkError `model_not_found`, or `ambiguous_match` with `detail.matches`.
 */
export async function locate(
  spec: string,
  env: CacheEnvironment = process.env,
): Promise<LocatedModel> {
  if (spec === BUILTIN) return await locateBuiltin();
  if (isExplicitPath(spec)) return await locateFolder(spec);
  const home = await workspaceHome(env);
  const workspaces = home === undefined || spec === '' ? [] : await workspacesIn(home);
  const named = workspaces.find(({ name }) => name === spec);
  if (named !== undefined) return workspaceAt(named.folder);

  const { name, revision } = splitSpec(spec);
  if (name === '' && revision === undefined) throw notFound(spec, env);
  const inCache = matchCached(name, env);
  const [only] = inCache;
  if (only !== undefined && inCache.length === 1 && isExact(only, name)) {
    return atRevision(only, revision);
  }
  const repositories = revision === undefined ? inCache : having(inCache, revision);
  const folders = workspaces.filter((entry) => contains(entry.name, spec));
  const matches = [...folders.map((entry) => entry.name), ...repositories.map(({ id }) => id)];
  if (matches.length > 1) throw ambiguous(spec, matches);
  const [folder] = folders;
  if (folder !== undefined) return workspaceAt(folder.folder);
  const [repository] = repositories;
  if (repository !== undefined) return atRevision(repository, revision);
  throw notFound(spec, env);
}

/**
 * The repositories of the cache that a name without revision means: the one of exactly that name (or of that name
 * under the usual owner), else all whose id contains it in any case.
 */
export function matchCached(name: string, env: CacheEnvironment = process.env): CachedModel[] {
  const models = cachedModels(hubCacheFolder(env));
  const exact =
    models.find(({ id }) => id === name) ?? models.find((model) => isExact(model, name));
  return exact === undefined ? models.filter(({ id }) => contains(id, name)) : [exact];
}

/** Whether a name says which model is meant without being completed, but for the usual owner. */
export function isExact({ id }: CachedModel, name: string): boolean {
  return id === name || id === `${USUAL_OWNER}/${name}`;
}

function contains(name: string, part: string): boolean {
  return name.toLowerCase().includes(part.toLowerCase());
}

/** The snapshot that a repository is at: its `main` as last downloaded, else the newest. */
export function currentSnapshot(model: CachedModel): Snapshot | undefined {
  const snapshots = snapshotsOf(model);
  const main = refOf(model, 'main');
  return (
    snapshots.find(({ revision }) => revision === main) ??
    snapshots.find(({ revision }) => isCommit(revision)) ??
    snapshots[0]
  );
}

/**
 * The snapshot of a branch, tag or the first digits of a commit.
 *
 * @throws MlxkError `ambiguous_match` when several commits start with those digits.
 */
export function snapshotAt(model: CachedModel, revision: string): Snapshot | undefined {
  const snapshots = snapshotsOf(model);
  const commit = refOf(model, revision);
  const referred = snapshots.find((snapshot) => snapshot.revision === commit);
  if (referred !== undefined) return referred;
  const digits = revision.toLowerCase();
  const matches = snapshots.filter((snapshot) => snapshot.revision.startsWith(digits));
  if (matches.length > 1) {
    throw ambiguous(
      `${model.id}@${revision}`,
      matches.map((snapshot) => `${model.id}@${snapshot.revision}`),
    );
  }
  return matches[0];
}

/** Whether a folder under `snapshots/` is named by a commit. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

async function locateBuiltin(): Promise<LocatedWorkspace> {
  const folder = path.join(packageRoot, 'builtin');
  if (await isWorkspace(folder)) return { kind: 'workspace', name: BUILTIN, folder };
  throw new MlxkError('model_not_found', `the built-in model is missing from ${packageRoot}`, {
    reason: 'builtin_missing',
  });
}

async function locateFolder(spec: string): Promise<LocatedWorkspace> {
  const folder = pathOf(spec);
  if (await isWorkspace(folder)) return workspaceAt(folder);
  throw new MlxkError('model_not_found', `there is no model folder at ${visibleLine(folder)}`, {
    reason: 'folder_missing',
    detail: { folder },
  });
}

function workspaceAt(folder: string): LocatedWorkspace {
  return { kind: 'workspace', name: folder, folder };
}

function atRevision(model: CachedModel, revision: string | undefined): LocatedInCache {
  const snapshot = revision === undefined ? currentSnapshot(model) : snapshotAt(model, revision);
  if (revision !== undefined && snapshot === undefined) {
    const what = `no revision "${revision}" of it is`;
    throw new MlxkError('model_not_found', `${model.id} is in the cache, but ${what}`, {
      reason: 'revision_missing',
      detail: {
        model: model.id,
        available_hashes: snapshotsOf(model).map((entry) => entry.revision),
      },
    });
  }
  return { kind: 'cache', name: model.id, model, snapshot };
}

function having(models: readonly CachedModel[], revision: string): CachedModel[] {
  return models.filter((model) => snapshotAt(model, revision) !== undefined);
}

/** The error that lists the candidates. */
export function ambiguous(spec: string, matches: readonly string[]): MlxkError {
  const more =
    matches.length > CANDIDATES_SHOWN ? `, and ${matches.length - CANDIDATES_SHOWN} more` : '';
  const shown = matches.slice(0, CANDIDATES_SHOWN).map(visibleLine).join(', ');
  return new MlxkError(
    'ambiguous_match',
    `Ambiguous model specification "${spec}". Could be: ${shown}${more}`,
    { reason: 'ambiguous_name', detail: { matches } },
  );
}

function notFound(spec: string, env: CacheEnvironment): MlxkError {
  const { name } = splitSpec(spec);
  const next =
    isRepositoryId(name) && name.includes('/')
      ? `Download it with: mlxk pull ${spec}`
      : 'Give a cached hub id, a unique part of one, a folder (with ./ or /), or "builtin"';
  return new MlxkError(
    'model_not_found',
    `Model "${visibleLine(spec)}" not found in ${hubCacheFolder(env)}. ${next}.`,
    { reason: 'not_in_cache', detail: { model: spec } },
  );
}
