/**
 * Brings a model from the hub into a cache. Asks everything that could refuse it before the first byte is written;
 * then what is missing is fetched, linked, and named last. May be ended at any moment and done again.
 */

import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { HubClient } from '../hub/client.js';
import { hasContent } from '../hub/content-hash.js';
import { RemoteContent } from '../hub/content.js';
import { LinkedAbort } from '../hub/linked-abort.js';
import { listModel, readModel, type RemoteFile, type RemoteModel } from '../hub/listing.js';
import { checkRepositoryId, checkRevision, isCommit } from '../hub/names.js';
import { matchesAny } from '../hub/patterns.js';
import { DEFAULT_RETRY, type RetryPolicy } from '../hub/retry.js';
import { hubSettings } from '../hub/settings.js';
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
  TEXTS,
} from './arguments.js';
import { diskFull, freeBytes, isPresent } from './blob.js';
import { folderNameOf, hubCacheFolder } from './layout.js';
import { splitSpec } from './locate.js';
import type { PullOptions, PullResult } from './pull-types.js';
import { foldersOf, isLinked, type RepositoryFolders, tagCache, writeRef } from './snapshot.js';
import { transfer } from './transfer.js';

const DEFAULT_BRANCH = 'main';
/** The first question is asked once, and not waited for long: what comes after it is patient. */
const PREFLIGHT: RetryPolicy = { attempts: 1, delayMs: 0 };
const PREFLIGHT_STALL_MS = 10_000;

/**
 * Downloads a model, or what is missing of it.
 *
 * @param spec `org/name`, with `@` and a branch, tag or commit if another than `main` is meant. Never guessed at.
 * @throws TypeError naming a wrong argument; MlxkError `validation_error` (a name, a repository or a listing that
 * cannot be right), `access_denied` (not there, private, gated), `download_failed` (reasons `offline`, `disk_full`, `hub_unreachable`, `hash_mismatch`, …),
 * `permission_denied` (the cache). After a refusal the cache is as it was; after a failure the same call goes on.
 */
export async function pull(spec: string, options: PullOptions = {}): Promise<PullResult> {
  check('spec', spec, TEXT);
  checkOptions(options, {
    cacheFolder: TEXT,
    revision: TEXT,
    include: TEXTS,
    exclude: TEXTS,
    verify: FLAG,
    onProgress: CALLBACK,
    signal: SIGNAL,
    token: TEXT_OR_NULL,
    endpoint: TEXT,
    env: MEMBERS,
    connections: COUNT,
    pieceBytes: COUNT,
    retry: MEMBERS,
    stallMs: COUNT,
  });
  const stop = new LinkedAbort(options.signal);
  try {
    return await pullUnder(stop.signal, spec, options);
  } finally {
    stop.release();
  }
}

async function pullUnder(
  signal: AbortSignal,
  spec: string,
  options: PullOptions,
): Promise<PullResult> {
  const { id, revision } = target(spec, options.revision);
  const settings = await hubSettings(options, options.env);
  if (settings.offline) {
    throw new MlxkError('download_failed', `${id} cannot be downloaded: HF_HUB_OFFLINE is set`, {
      reason: 'offline',
    });
  }
  signal.throwIfAborted();
  const retry = options.retry ?? DEFAULT_RETRY;
  const stall = options.stallMs === undefined ? {} : { stallMs: options.stallMs };
  const client = new HubClient(settings, { signal, retry, ...stall });

  const asked = await preflight(
    new HubClient(settings, { signal, stallMs: options.stallMs ?? PREFLIGHT_STALL_MS }),
    id,
    revision,
  );
  if (asked.warning !== undefined) {
    options.onProgress?.({ type: 'warning', message: asked.warning });
  }
  const model = asked.model ?? (await readModel(client, id, revision));
  const files = selected(id, await listModel(client, model), options);
  const probed = files[0];
  if (probed !== undefined) await probe(client, model, probed);

  const cacheFolder = path.resolve(options.cacheFolder ?? hubCacheFolder(options.env));
  const folders = foldersOf(cacheFolder, folderNameOf(id));
  const snapshot = path.join(folders.snapshots, model.commit);
  const { missing, bad } = await missingFiles(folders, snapshot, files, signal, options);
  await checkRoom(folders.blobs, missing);

  const plan = { client, model, files, missing, bad, folders, options };
  const fetchedBytes = await transfer(plan).catch(async (error: unknown) => {
    await removeIfEmpty(cacheFolder, folderNameOf(id));
    throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? deletedMeanwhile(id, error) : error;
  });
  for (const file of files) {
    if (!(await isLinked(snapshot, folders.blobs, file))) throw deletedMeanwhile(id);
  }
  if (!isCommit(revision)) await writeRef(folders, revision, model.commit, signal);
  await tagCache(cacheFolder);
  return {
    model: id,
    commit: model.commit,
    folder: snapshot,
    files: files.length,
    totalBytes: sumOf(files),
    fetchedBytes,
    ...(asked.warning !== undefined && { warning: asked.warning }),
  };
}

/** What `rm --force` and other tools may do to a download at any moment. */
function deletedMeanwhile(id: string, cause?: unknown): MlxkError {
  return new MlxkError(
    'download_failed',
    `files of ${id} were deleted from the cache while it was downloaded; pull it again`,
    { reason: 'deleted_meanwhile', detail: { model: id }, ...(cause !== undefined && { cause }) },
  );
}

function target(spec: string, option: string | undefined): { id: string; revision: string } {
  const { name, revision } = splitSpec(spec);
  checkRepositoryId(name);
  const wanted = option ?? revision ?? DEFAULT_BRANCH;
  checkRevision(wanted);
  return { id: name, revision: wanted };
}

/** Refusals are final; that the hub cannot be asked just now is a warning. */
async function preflight(
  client: HubClient,
  id: string,
  revision: string,
): Promise<{ model?: RemoteModel; warning?: string }> {
  try {
    return { model: await readModel(client, id, revision, PREFLIGHT) };
  } catch (error) {
    if (!(error instanceof MlxkError) || error.reason !== 'hub_unreachable') throw error;
    return { warning: `The hub could not be asked about ${id} beforehand: ${error.message}` };
  }
}

/** Gated repositories tell their listing to everybody, and no file. */
async function probe(client: HubClient, model: RemoteModel, file: RemoteFile): Promise<void> {
  try {
    await new RemoteContent(client, model, file).probe();
  } catch (error) {
    client.signal.throwIfAborted();
    if (error instanceof MlxkError) throw error;
    // What may pass is met again, patiently, by the download itself.
  }
}

function selected(
  id: string,
  files: readonly RemoteFile[],
  { include = [], exclude = [] }: PullOptions,
): RemoteFile[] {
  const chosen = files.filter(
    ({ path: name }) =>
      (include.length === 0 || matchesAny(name, include)) && !matchesAny(name, exclude),
  );
  if (chosen.length === 0 && files.length > 0) {
    throw new MlxkError('validation_error', `no file of ${id} fits the patterns`, {
      reason: 'no_file_selected',
      detail: { include, exclude },
    });
  }
  return chosen;
}

function sumOf(files: readonly RemoteFile[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Files whose blobs are not there, each blob once, and which of those are there but bad. */
async function missingFiles(
  folders: RepositoryFolders,
  snapshot: string,
  files: readonly RemoteFile[],
  signal: AbortSignal,
  { verify = false, onProgress }: PullOptions,
): Promise<{ missing: RemoteFile[]; bad: Set<string> }> {
  const missing: RemoteFile[] = [];
  const bad = new Set<string>();
  const seen = new Set<string>();
  for (const file of files) {
    const { blob, bytes } = file;
    if (seen.has(blob)) continue; // Two names for one content are one download.
    seen.add(blob);
    const present = await isPresent(folders.blobs, blob, bytes);
    if (present && verify) {
      onProgress?.({ type: 'verifying', file: file.path, bytes });
      if (await hasContent(path.join(folders.blobs, blob), blob, bytes, signal)) continue;
      bad.add(blob);
      missing.push(file);
    } else if (!present && !(await isLinked(snapshot, folders.blobs, file))) {
      missing.push(file);
    }
  }
  return { missing, bad };
}

/** Refuses what cannot fit; what an earlier download left counts for its size on the disk. */
async function checkRoom(blobs: string, missing: readonly RemoteFile[]): Promise<void> {
  const free = await freeBytes(blobs);
  if (free === undefined) return;
  const wanted = new Set(missing.map(({ blob }) => blob));
  let begun = 0;
  for (const name of await readdir(blobs).catch(() => [])) {
    if (!name.endsWith('.incomplete') || !wanted.has(name.split('.', 1)[0] ?? '')) continue;
    const stats = await stat(path.join(blobs, name)).catch(() => undefined);
    begun += (stats?.blocks ?? 0) * 512;
  }
  const needed = sumOf(missing) - begun;
  if (needed > free) throw diskFull(blobs, needed, free);
}

/** A download that did not get to its first byte leaves no empty folders behind. */
async function removeIfEmpty(cacheFolder: string, folderName: string): Promise<void> {
  const repository = path.join(cacheFolder, folderName);
  const entries = await readdir(repository, { recursive: true, withFileTypes: true }).catch(
    () => undefined,
  );
  if (entries === undefined || entries.some((entry) => !entry.isDirectory())) return;
  await rm(repository, { recursive: true, force: true });
  await rm(path.join(cacheFolder, '.locks', folderName), { recursive: true, force: true });
}

export type { PullEvent, PullOptions, PullResult } from './pull-types.js';
