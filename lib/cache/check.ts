/**
 * `health`: which models of this machine are whole, and what is wrong with the others.
 */

import { stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

import { MlxkError } from '../errors.js';
import { workspaceHome, workspacesIn } from '../workspace/home.js';
import { CALLBACK, check, checkOptions, FLAG, MEMBERS, SIGNAL, TEXT } from './arguments.js';
import { deepHealth, type DeepProgress } from './deep.js';
import { type CacheEnvironment, cachedModels, hubCacheFolder } from './layout.js';
import { TEST_SENTINEL } from './list.js';
import { currentSnapshot, isExplicitPath, locate, type LocatedModel, pathOf } from './locate.js';
import { healthOfLocated } from './model-entry.js';

export interface HealthEntry {
  readonly name: string;
  readonly status: 'healthy' | 'unhealthy';
  readonly reason: string;
  /** For a workspace asked for by its path: whether it has a sentinel file. */
  readonly managed?: boolean;
  /** With `deep`: files whose content was compared with the hash they are stored under. */
  readonly verifiedFiles?: number;
}

export interface HealthReport {
  readonly healthy: readonly HealthEntry[];
  readonly unhealthy: readonly HealthEntry[];
}

export interface HealthOptions {
  /** Also reads every file and compares its hash with the one it was downloaded by. */
  readonly deep?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: DeepProgress) => void;
  readonly env?: CacheEnvironment;
}

/**
 * Checks one model, or all. A name that fits none gives an empty report.
 *
 * @throws TypeError naming a wrong argument; MlxkError `ambiguous_match`; the signal's reason when aborted.
 */
export async function checkHealth(
  spec?: string,
  options: HealthOptions = {},
): Promise<HealthReport> {
  if (spec !== undefined) check('spec', spec, TEXT);
  checkOptions(options, { deep: FLAG, signal: SIGNAL, onProgress: CALLBACK, env: MEMBERS });
  const env = options.env ?? process.env;
  const models = spec === undefined ? await allModels(env) : await theModel(spec, env);
  const entries: HealthEntry[] = [];
  for (const located of models) {
    options.signal?.throwIfAborted();
    entries.push(await entryOf(located, spec, options));
    await setImmediate(); // Files are read synchronously: others get their turn between two models.
  }
  return {
    healthy: entries.filter(({ status }) => status === 'healthy'),
    unhealthy: entries.filter(({ status }) => status === 'unhealthy'),
  };
}

async function entryOf(
  located: LocatedModel,
  spec: string | undefined,
  options: HealthOptions,
): Promise<HealthEntry> {
  const deep = options.deep === true ? await deepHealth(located, options) : undefined;
  const { healthy, reason } = deep ?? healthOfLocated(located);
  const byPath = located.kind === 'workspace' && spec !== undefined && isExplicitPath(spec);
  return {
    name: located.kind === 'workspace' && !byPath ? path.basename(located.name) : located.name,
    status: healthy ? 'healthy' : 'unhealthy',
    reason,
    ...(byPath && { managed: await isManaged(located.name) }),
    ...(deep !== undefined && { verifiedFiles: deep.verifiedFiles }),
  };
}

async function isManaged(folder: string): Promise<boolean> {
  const { Sentinel } = await import('../workspace/sentinel.js');
  return (await Sentinel.read(folder)) !== undefined;
}

async function theModel(spec: string, env: CacheEnvironment): Promise<LocatedModel[]> {
  try {
    return [await locate(spec, env)];
  } catch (error) {
    if (!(error instanceof MlxkError) || error.code !== 'model_not_found') throw error;
  }
  // A folder that is no workspace is unhealthy; what is not there is nothing.
  const folder = pathOf(spec);
  const stats = isExplicitPath(spec) ? await stat(folder).catch(() => undefined) : undefined;
  return stats?.isDirectory() ? [{ kind: 'workspace', name: folder, folder }] : [];
}

/** The workspace home first; a model of the cache with the name of a workspace is meant by that name no more. */
async function allModels(env: CacheEnvironment): Promise<LocatedModel[]> {
  const home = await workspaceHome(env);
  const workspaces = home === undefined ? [] : await workspacesIn(home);
  const names = new Set(workspaces.map(({ name }) => name));
  const cached = cachedModels(hubCacheFolder(env))
    .filter(({ id }) => !names.has(path.posix.basename(id)) && !id.includes(TEST_SENTINEL))
    .sort((a, b) => (path.basename(a.folder) < path.basename(b.folder) ? -1 : 1));
  const located: LocatedModel[] = workspaces.map(({ folder }) => ({
    kind: 'workspace',
    name: folder,
    folder,
  }));
  for (const model of cached) {
    const snapshot = currentSnapshot(model);
    located.push({ kind: 'cache', name: model.id, model, snapshot });
  }
  return located;
}
