/**
 * From what a user calls a model to the folder that its files are loaded from: as `locate` has it, and `builtin`.
 */

import { stat } from 'node:fs/promises';

import { MlxkError } from '../errors.js';
import { type CacheEnvironment, isRepositoryId } from './layout.js';
import { BUILTIN, isExplicitPath, locate, pathOf, splitSpec } from './locate.js';

export { BUILTIN };

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
  // Loading says more of a folder without config.json than that it is no model.
  if (isExplicitPath(spec) && (await isFolder(pathOf(spec)))) {
    return { name: pathOf(spec), folder: pathOf(spec) };
  }
  const found = await locate(spec, env);
  if (found.kind === 'workspace') return { name: found.name, folder: found.folder };
  if (found.snapshot === undefined) {
    const what = 'no complete snapshot of it is';
    throw new MlxkError('model_not_found', `${found.name} is in the cache, but ${what}`, {
      reason: 'snapshot_missing',
      detail: { model: found.name, available_hashes: [] },
    });
  }
  const { folder, revision } = found.snapshot;
  return { name: found.name, folder, revision };
}

/** Whether a text was meant as a model's name, not as a prompt: a path, or one word with a slash in it. */
export function looksLikeModel(spec: string): boolean {
  if (isExplicitPath(spec)) return !/\s/.test(spec);
  return spec.includes('/') && isRepositoryId(splitSpec(spec).name);
}

async function isFolder(file: string): Promise<boolean> {
  return (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
}
