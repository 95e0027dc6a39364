/**
 * `list`: the models of the cache and of the workspace home, or the workspaces that a path means.
 */

import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';

import { expandHome } from '../home.js';
import { isWorkspace, type Workspace, workspaceHome, workspacesIn } from '../workspace/home.js';
import { check, MEMBERS, TEXT } from './arguments.js';
import { type CacheEnvironment, cachedModels, hubCacheFolder } from './layout.js';
import { currentSnapshot, isExplicitPath, type LocatedModel, pathOf } from './locate.js';
import { modelEntry } from './model-entry.js';
import type { ModelEntry } from './types.js';

/** Marks the cache of a test suite; nobody's model. */
export const TEST_SENTINEL = 'TEST-CACHE-SENTINEL';

/** A model with what a list calls it, where that is not its name. */
interface Listed {
  readonly located: LocatedModel;
  readonly displayName?: string;
}

/**
 * Lists models, sorted by name.
 *
 * @param pattern nothing for all; a part of names, in any case; or a path (starting with `.`, `/` or `~`): a
 * workspace, a folder of workspaces, or the beginning of their names.
 * @throws TypeError naming a wrong argument.
 *
 * @example
 * for (const { name, sizeBytes } of await cache.list('qwen')) console.log(name, sizeBytes)
 */
export async function list(
  pattern = '',
  env: CacheEnvironment = process.env,
): Promise<ModelEntry[]> {
  check('pattern', pattern, TEXT);
  check('env', env, MEMBERS);
  const found = isExplicitPath(pattern)
    ? await workspacesAt(pattern)
    : [...(await fromWorkspaceHome(pattern, env)), ...fromCache(pattern, env)];
  const entries: ModelEntry[] = [];
  for (const { located, displayName } of found) {
    const entry = await modelEntry(located);
    entries.push(displayName === undefined ? entry : { ...entry, displayName });
    await setImmediate(); // Files are read synchronously: others get their turn between two models.
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function fromCache(pattern: string, env: CacheEnvironment): Listed[] {
  return cachedModels(hubCacheFolder(env))
    .filter(({ id }) => !id.includes(TEST_SENTINEL) && includes(id, pattern))
    .map((model) => ({
      located: { kind: 'cache', name: model.id, model, snapshot: currentSnapshot(model) },
    }));
}

async function fromWorkspaceHome(pattern: string, env: CacheEnvironment): Promise<Listed[]> {
  const home = await workspaceHome(env);
  if (home === undefined) return [];
  const workspaces = await workspacesIn(home);
  return workspaces
    .filter(({ name }) => !name.includes(TEST_SENTINEL) && includes(name, pattern))
    .map(({ name, folder }) => listed(folder, name));
}

/** A workspace itself, else the workspaces in a folder, else those whose name begins so. */
async function workspacesAt(pattern: string): Promise<Listed[]> {
  const folder = pathOf(pattern);
  // An absolute pattern is answered in absolute paths.
  const isAbsolute = path.isAbsolute(expandHome(pattern));
  const shown = (workspace: Workspace): Listed =>
    listed(workspace.folder, isAbsolute ? workspace.folder : workspace.name);
  if (await isWorkspace(folder)) return [shown({ name: path.basename(folder), folder })];
  const inside = await workspacesIn(folder);
  if (inside.length > 0 || /(^|[/\\])\.{0,2}$/.test(pattern)) return inside.map(shown);
  return (await workspacesStarting(folder)).map(shown);
}

async function workspacesStarting(prefix: string): Promise<Workspace[]> {
  const parent = path.dirname(prefix);
  const start = path.basename(prefix);
  const names = (await readdir(parent).catch(() => [])).filter((name) => name.startsWith(start));
  const candidates = names.sort().map((name) => ({ name, folder: path.join(parent, name) }));
  const are = await Promise.all(candidates.map(({ folder }) => isWorkspace(folder)));
  return candidates.filter((_, index) => are[index]);
}

function listed(folder: string, displayName: string): Listed {
  return { located: { kind: 'workspace', name: folder, folder }, displayName };
}

function includes(name: string, part: string): boolean {
  return name.toLowerCase().includes(part.toLowerCase());
}
