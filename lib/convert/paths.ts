/**
 * Where a conversion reads and writes: workspaces by path or by their name in the workspace home, never the cache.
 */

import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import { type CacheEnvironment, hubCacheFolder } from '../cache/layout.js';
import { BUILTIN, pathOf } from '../cache/locate.js';
import { MlxkError } from '../errors.js';
import { packageRoot } from '../package-info.js';
import { workspaceHome } from '../workspace/home.js';
import { occupantOf, realTarget } from '../workspace/staging.js';

/**
 * @param mayBeEmpty whether the target may be an empty folder
 * @throws MlxkError `validation_error` with the reason `source_missing`, `source_in_cache`, `target_in_cache`,
 * `target_exists`, `target_not_empty`, `target_in_source`,
 * `target_invalid` or `parent_missing`.
 */
export async function convertPaths(
  source: string,
  target: string,
  mayBeEmpty: boolean,
  env: CacheEnvironment,
): Promise<{ source: string; target: string }> {
  const home = await workspaceHome(env);
  const isName = (spec: string): boolean => home !== undefined && /^[^/\\~.][^/\\]*$/.test(spec);
  const inHome = isName(source) ? path.join(home ?? '', source) : undefined;
  const named = inHome !== undefined && (await stat(inHome).catch(() => undefined)) !== undefined;
  const from = await realTarget(
    named ? inHome : source === BUILTIN ? path.join(packageRoot, BUILTIN) : pathOf(source),
  );
  const to = await realTarget(isName(target) ? path.join(home ?? '', target) : pathOf(target));

  const stats = source === '' ? undefined : await stat(from).catch(() => undefined);
  if (stats === undefined) {
    throw refusal('source_missing', `Source path does not exist: ${source}`, { source: from });
  }
  if (!stats.isDirectory() && (mayBeEmpty || !from.endsWith('.gguf'))) {
    throw refusal('source_no_folder', `Source must be a directory: ${source}`, { source: from });
  }
  const cache = await realTarget(hubCacheFolder(env));
  if (isInside(from, cache)) {
    throw refusal(
      'source_in_cache',
      `Source path is in the model cache, which convert only leaves alone: ${from}. ` +
        'Make a workspace of it first: mlxk clone <model> ./workspace',
      { source: from },
    );
  }
  if (isInside(to, cache)) {
    throw refusal(
      'target_in_cache',
      `Target path is in the model cache, where convert does not write: ${to}. ` +
        'Choose a place outside, for example ./workspace',
      { target: to },
    );
  }
  if (isInside(to, from) && to !== from) {
    throw refusal(
      'target_in_source',
      `Target path is inside the source, which is only read: ${to}. Choose a place outside`,
      { target: to },
    );
  }
  await checkTarget(target, to, mayBeEmpty);
  return { source: from, target: to };
}

async function checkTarget(spec: string, target: string, mayBeEmpty: boolean): Promise<void> {
  const stats = await occupantOf(target, spec);
  if (stats === undefined) {
    const parent = path.dirname(target);
    if ((await stat(parent).catch(() => undefined))?.isDirectory() === true) return;
    throw refusal('parent_missing', `Parent directory does not exist: ${parent}`, { target });
  }
  if (!mayBeEmpty) {
    throw refusal(
      'target_exists',
      `Target directory exists: ${spec}. Delete it or choose another`,
      { target },
    );
  }
  if (!stats.isDirectory() || (await readdir(target)).length > 0) {
    throw refusal('target_not_empty', `Target directory is not empty: ${spec}`, { target });
  }
}

function isInside(file: string, folder: string): boolean {
  return file === folder || file.startsWith(folder + path.sep);
}

function refusal(reason: string, message: string, detail: Record<string, unknown>): MlxkError {
  return new MlxkError('validation_error', message, { reason, detail });
}
