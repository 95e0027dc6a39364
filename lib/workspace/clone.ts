/**
 * Makes a workspace of a model of the hub without touching the user's cache: the download goes into a cache of its own
 * beside the target, which an interrupted run leaves there for the next one. The workspace appears whole or not at all.
 */

import { createHash } from 'node:crypto';
import { access, constants, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';

import {
  CALLBACK,
  check,
  checkOptions,
  COUNT,
  FLAG,
  MEMBERS,
  SIGNAL,
  TEXT,
  TEXT_OR_NULL,
} from '../cache/arguments.js';
import { health } from '../cache/health.js';
import { type CacheEnvironment, cachedModels } from '../cache/layout.js';
import { currentSnapshot, pathOf, splitSpec } from '../cache/locate.js';
import { pull } from '../cache/pull.js';
import type { PullEvent, PullOptions } from '../cache/pull-types.js';
import type { Health } from '../cache/types.js';
import { MlxkError } from '../errors.js';
import { typedFileError } from '../file-system-error.js';
import { pinContentHash } from './content-hash.js';
import { copyFiles, filesToCopy } from './copy-files.js';
import { workspaceHome } from './home.js';
import { Sentinel } from './sentinel.js';
import { makeFolder, occupantOf, realTarget } from './staging.js';

/** Names that mlx-knife uses too, so that either program resumes the other's download. */
const TEMPORARY_PREFIX = '.mlxk2_temp_';
const OURS_FILE = '.mlxk2_temp_cache_sentinel';
const COMPLETE_FILE = '.mlxk2_download_complete';

export interface CloneOptions extends Pick<
  PullOptions,
  'token' | 'endpoint' | 'connections' | 'pieceBytes' | 'retry' | 'stallMs'
> {
  /** Branch, tag or commit. Default: what stands behind `@` in the name, else `main`. */
  readonly revision?: string | undefined;
  /** Uses a download that is complete but unhealthy as it is. */
  readonly forceResume?: boolean | undefined;
  /** Leaves the model unchecked. */
  readonly skipHealth?: boolean | undefined;
  /** Ends the clone; what was fetched is kept beside the target and not fetched again. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((event: PullEvent) => void) | undefined;
}

export interface CloneResult {
  /** Hub id. */
  readonly model: string;
  /** Absolute path of the new workspace. */
  readonly target: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
  /** Told, not demanded: a broken model is cloned to be mended. Absent when the check was skipped. */
  readonly health?: Health;
  /** `sha256:…`; `null` when it cannot be computed. */
  readonly contentHash: string | null;
}

/**
 * Downloads a model into a new workspace.
 *
 * @param spec `org/name`, with `@` and a branch, tag or commit if another than `main` is meant
 * @param target folder that does not exist or is empty; a name without a slash lies in the workspace home where there
 * is one; without a target it is the model's own name there
 * @throws TypeError naming a wrong argument; MlxkError `validation_error` for a target that will not do;
 * what `pull` throws, with `detail.step` `pull`; the signal's reason when aborted.
 *
 * @example
 * await clone('mlx-community/Qwen3-0.6B-4bit', './qwen')
 */
export async function clone(
  spec: string,
  target?: string,
  options: CloneOptions = {},
  env: CacheEnvironment = process.env,
): Promise<CloneResult> {
  check('spec', spec, TEXT);
  if (target !== undefined) check('target', target, TEXT);
  checkOptions(options, {
    token: TEXT_OR_NULL,
    endpoint: TEXT,
    connections: COUNT,
    pieceBytes: COUNT,
    retry: MEMBERS,
    stallMs: COUNT,
    revision: TEXT,
    forceResume: FLAG,
    skipHealth: FLAG,
    signal: SIGNAL,
    onProgress: CALLBACK,
  });
  const { name: model, revision: named } = splitSpec(spec);
  const revision = options.revision ?? named;
  const full = revision === undefined ? model : `${model}@${revision}`;
  const folder = await cloneTarget(model, target, env);
  await checkTarget(folder, target ?? folder);
  options.signal?.throwIfAborted();

  const temporary = temporaryCacheOf(full, folder);
  let complete = false;
  try {
    const snapshot = await download(full, temporary, options);
    complete = true;
    const state = options.skipHealth === true ? undefined : health(snapshot.folder);
    const contentHash = await copy(model, snapshot, temporary, folder, options.signal);
    await removeTemporaryCache(temporary);
    const { commit } = snapshot;
    return { model, target: folder, commit, ...(state && { health: state }), contentHash };
  } catch (error) {
    const keep = complete || options.signal?.aborted === true;
    if (!keep) await removeTemporaryCache(temporary);
    options.signal?.throwIfAborted();
    throw typedFileError(error);
  }
}

/** Where an interrupted clone keeps what it has fetched: the same for the same model and target. */
export function temporaryCacheOf(spec: string, target: string): string {
  const digest = createHash('sha256').update(`${spec}:${target}`).digest('hex');
  return path.join(path.dirname(target), `${TEMPORARY_PREFIX}${digest.slice(0, 16)}`);
}

/** Absolute path of the folder to make. @throws MlxkError `validation_error` without target and home. */
export async function cloneTarget(
  model: string,
  target: string | undefined,
  env: CacheEnvironment = process.env,
): Promise<string> {
  const home = await workspaceHome(env);
  if (target !== undefined) {
    const isName = home !== undefined && /^[^/\\~.][^/\\]*$/.test(target);
    return await realTarget(isName ? path.join(home, target) : pathOf(target));
  }
  if (home === undefined) {
    throw refusal(
      'target_missing',
      'No target directory: give one, or set MLXK_WORKSPACE_HOME to a directory',
      {},
    );
  }
  const folder = path.join(home, path.posix.basename(model));
  if ((await stat(folder).catch(() => undefined)) !== undefined) {
    throw refusal('target_exists', `Workspace already exists: ${folder}`, { target: folder });
  }
  return folder;
}

async function checkTarget(target: string, spec: string): Promise<void> {
  const parent = path.dirname(target);
  const parentStats = await stat(parent).catch(() => undefined);
  if (parentStats?.isDirectory() !== true) {
    throw refusal('parent_missing', `Parent directory does not exist: ${parent}`, { target });
  }
  try {
    await access(parent, constants.W_OK | constants.X_OK);
  } catch {
    throw refusal('parent_not_writable', `Parent directory is not writable: ${parent}`, { target });
  }
  const stats = await occupantOf(target, spec).catch((error: unknown) => {
    throw error instanceof MlxkError ? refusal(error.reason, error.message, error.detail) : error;
  });
  if (stats === undefined) return;
  if (!stats.isDirectory()) {
    throw refusal('target_no_folder', `Target '${target}' exists but is not a directory`, {
      target,
    });
  }
  if ((await readdir(target)).length > 0) {
    throw refusal('target_not_empty', `Target directory '${target}' is not empty`, { target });
  }
}

interface Downloaded {
  readonly folder: string;
  readonly commit: string;
}

/** A complete and healthy download is used as it is, an incomplete one is gone on with, a broken one begun anew. */
async function download(
  spec: string,
  temporary: string,
  options: CloneOptions,
): Promise<Downloaded> {
  const { forceResume, signal, onProgress } = options;
  const { token, endpoint, connections, pieceBytes, retry, stallMs } = options;
  const earlier = await completeDownload(temporary);
  if (earlier !== undefined) {
    if (forceResume === true || health(earlier.folder).healthy) return earlier;
    await removeTemporaryCache(temporary);
  }
  await createTemporaryCache(temporary);
  try {
    const pulled = await pull(spec, {
      cacheFolder: path.join(temporary, 'hub'),
      ...{ signal, onProgress, token, endpoint, connections, pieceBytes, retry, stallMs },
    });
    await writeFile(path.join(temporary, COMPLETE_FILE), `${pulled.commit}\n`);
    return { folder: pulled.folder, commit: pulled.commit };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof MlxkError)) throw error;
    throw new MlxkError(error.code, `Pull operation failed: ${error.message}`, {
      reason: error.reason,
      detail: { ...error.detail, step: 'pull' },
      cause: error,
    });
  }
}

async function completeDownload(temporary: string): Promise<Downloaded | undefined> {
  const marked = await stat(path.join(temporary, COMPLETE_FILE)).catch(() => undefined);
  if (marked === undefined || !(await isOurs(temporary))) return undefined;
  const [model] = cachedModels(path.join(temporary, 'hub'));
  const snapshot = model === undefined ? undefined : currentSnapshot(model);
  return snapshot === undefined
    ? undefined
    : { folder: snapshot.folder, commit: snapshot.revision };
}

async function createTemporaryCache(temporary: string): Promise<void> {
  const exists = (await stat(temporary).catch(() => undefined)) !== undefined;
  if (exists && !(await isOurs(temporary))) {
    throw refusal(
      'temporary_in_use',
      `${temporary} is in the way, and was not made by a clone: move it away`,
      { folder: temporary },
    );
  }
  await mkdir(temporary, { recursive: true });
  await writeFile(path.join(temporary, OURS_FILE), `mlxk2_temp_cache_created_${Date.now()}\n`);
}

/** Only a folder that a clone made is ever deleted. */
async function removeTemporaryCache(temporary: string): Promise<void> {
  if (await isOurs(temporary)) await rm(temporary, { recursive: true, force: true });
}

async function isOurs(temporary: string): Promise<boolean> {
  const text = await readFile(path.join(temporary, OURS_FILE), 'utf8').catch(() => '');
  return text.startsWith('mlxk2_temp_cache_created_');
}

async function copy(
  model: string,
  { folder: snapshot, commit }: Downloaded,
  temporary: string,
  target: string,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  let contentHash: string | null = null;
  const files = await filesToCopy(snapshot, temporary);
  await makeFolder(target, async (folder) => {
    await copyFiles(files, folder, { signal, take: true });
    const sentinel = Sentinel.create({
      operation: 'clone',
      source_repo: model,
      source_revision: commit,
    });
    await sentinel.write(folder);
    contentHash = (await pinContentHash(folder)) ?? null;
  });
  return contentHash;
}

function refusal(reason: string, message: string, detail: Record<string, unknown>): MlxkError {
  return new MlxkError('validation_error', message, {
    reason,
    detail: { ...detail, step: 'target' },
  });
}
