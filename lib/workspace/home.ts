/**
 * The folder that `MLXK_WORKSPACE_HOME` names: its direct children are workspaces known by name.
 */

import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

import type { CacheEnvironment } from '../cache/layout.js';
import { expandHome } from '../home.js';

export interface Workspace {
  readonly name: string;
  readonly folder: string;
}

/** Absolute path of the workspace home; `undefined` when the variable is unset, empty or names no folder. */
export async function workspaceHome(
  env: CacheEnvironment = process.env,
): Promise<string | undefined> {
  const named = env['MLXK_WORKSPACE_HOME'];
  if (!named) return undefined;
  const home = await realpath(expandHome(named)).catch(() => undefined);
  return home !== undefined && (await isFolder(home)) ? home : undefined;
}

/** Whether a path is a folder with a config.json. */
export async function isWorkspace(folder: string): Promise<boolean> {
  const stats = await stat(path.join(folder, 'config.json')).catch(() => undefined);
  return stats !== undefined && (await isFolder(folder));
}

/** The workspaces directly below a folder, sorted by name; none when it cannot be read. */
export async function workspacesIn(folder: string): Promise<Workspace[]> {
  const names = await readdir(folder).catch(() => []);
  const workspaces: Workspace[] = [];
  for (const name of names.sort()) {
    const child = path.join(folder, name);
    if (await isWorkspace(child)) workspaces.push({ name, folder: child });
  }
  return workspaces;
}

async function isFolder(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
}
