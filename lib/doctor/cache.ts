/**
 * The cache and the workspace home: whether they can be used, and what in them is broken.
 */

import { mkdtemp, readdir, rmdir, stat, statfs } from 'node:fs/promises';
import path from 'node:path';

import { type CachedModel, cachedModels, hubCacheFolder, isRepositoryId } from '../cache/layout.js';
import { TEST_SENTINEL } from '../cache/list.js';
import { currentSnapshot } from '../cache/locate.js';
import { healthOfLocated } from '../cache/model-entry.js';
import { decimalBytes } from '../format.js';
import { shellQuoted } from '../shell-quote.js';
import { workspaceHome } from '../workspace/home.js';
import { type Environment, type Finding, ok, problem, warning } from './finding.js';

/** Less than a small model. */
const SMALL_DISK_BYTES = 5e9;

export async function checkCache(env: Environment): Promise<Finding[]> {
  let folder: string;
  try {
    folder = hubCacheFolder(env);
  } catch (error) {
    return [problem('cache', (error as Error).message, 'export HF_HOME=/path/to/folder')];
  }
  const stats = await stat(folder).catch((error: unknown) => error as NodeJS.ErrnoException);
  if (stats instanceof Error && stats.code !== 'ENOENT' && stats.code !== 'ENOTDIR') {
    return [unreadable(folder), ...(await checkWorkspaceHome(env))];
  }
  if (stats instanceof Error) {
    return [
      ok('cache', `none at ${folder} yet; the first pull makes it`),
      ...(await checkWorkspaceHome(env)),
    ];
  }
  if (!stats.isDirectory()) {
    return [
      problem(
        'cache',
        `${folder} is not a folder`,
        `mv ${shellQuoted(folder)} ${shellQuoted(`${folder}.old`)}`,
      ),
    ];
  }
  const models = modelsIn(folder);
  if (models === undefined) return [unreadable(folder), ...(await checkWorkspaceHome(env))];
  return [
    await usable(folder),
    ...(await diskSpace(folder)),
    ...unhealthyModels(models),
    ...(await unfinishedDownloads(models)),
    ...(await checkWorkspaceHome(env)),
  ];
}

/** Nothing where the folder may not be read. */
function modelsIn(folder: string): CachedModel[] | undefined {
  try {
    return cachedModels(folder).filter(({ id }) => !id.includes(TEST_SENTINEL));
  } catch {
    return undefined;
  }
}

function unreadable(folder: string): Finding {
  return problem('cache', `${folder} may not be read`, ownership(folder));
}

function ownership(folder: string): string {
  return `sudo chown -R "$USER" ${shellQuoted(folder)}`;
}

/** Tried, since neither modes nor owners tell of read-only mounts and access lists. */
async function usable(folder: string): Promise<Finding> {
  try {
    await rmdir(await mkdtemp(path.join(folder, '.mlxk-doctor-')));
    return ok('cache', folder);
  } catch {
    return problem('cache', `${folder} may not be written to`, ownership(folder));
  }
}

async function diskSpace(folder: string): Promise<Finding[]> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  return [
    free < SMALL_DISK_BYTES
      ? warning('disk', `${decimalBytes(free)} free for the cache`, 'mlxk list --all')
      : ok('disk', `${decimalBytes(free)} free for the cache`),
  ];
}

function unhealthyModels(models: readonly CachedModel[]): Finding[] {
  const findings = models.flatMap((model) => {
    const snapshot = currentSnapshot(model);
    const { healthy, reason } = healthOfLocated({ kind: 'cache', name: model.id, model, snapshot });
    return healthy ? [] : [warning('model', `${model.id}: ${reason}`, mendingCommand(model))];
  });
  return [ok('models', `${models.length}, ${findings.length} of them not whole`), ...findings];
}

/** What downloads left behind; another pull takes it up. */
async function unfinishedDownloads(models: readonly CachedModel[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const model of models) {
    const blobs = path.join(model.folder, 'blobs');
    const names = await readdir(blobs).catch(() => []);
    const parts = names.filter((name) => name.endsWith('.incomplete'));
    if (parts.length === 0) continue;
    const sizes = await Promise.all(parts.map((name) => sizeOf(path.join(blobs, name))));
    const bytes = decimalBytes(sizes.reduce((sum, size) => sum + size, 0));
    const message = `${model.id}: ${parts.length} unfinished file(s), ${bytes}`;
    findings.push(warning('download', message, mendingCommand(model)));
  }
  return findings;
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

/** A name that the hub cannot have is nothing that could be downloaded again. */
function mendingCommand({ id }: CachedModel): string {
  const name = shellQuoted(id);
  return isRepositoryId(id) ? `mlxk pull ${name} --force-resume` : `mlxk rm ${name}`;
}

async function checkWorkspaceHome(env: Environment): Promise<Finding[]> {
  const named = env.MLXK_WORKSPACE_HOME;
  if (!named) return [];
  const home = await workspaceHome(env);
  return [
    home === undefined
      ? warning(
          'workspaces',
          `MLXK_WORKSPACE_HOME is no folder: ${named}`,
          `mkdir -p ${shellQuoted(named)}`,
        )
      : ok('workspaces', home),
  ];
}
