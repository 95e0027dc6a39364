/**
 * What the hub says of a model: its commit and its files, each checked before anybody believes it.
 */

import { MlxkError } from '../errors.js';
import type { HubClient } from './client.js';
import { checkFileNames, isCommit, shown } from './names.js';
import type { RetryPolicy } from './retry.js';

/** The largest model repositories have some hundred files. */
const MAX_FILES = 20_000;

export interface RemoteModel {
  readonly id: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
  readonly private: boolean;
  readonly gated: boolean;
}

export interface RemoteFile {
  /** Path in the repository, with slashes; safe to be joined to a folder. */
  readonly path: string;
  readonly bytes: number;
  /** Name of its blob in the cache: SHA-256 for large files, else the hash that Git gives a blob. */
  readonly blob: string;
}

/** The commit that a revision stands for now. */
export async function readModel(
  client: HubClient,
  id: string,
  revision: string,
  retry?: RetryPolicy,
): Promise<RemoteModel> {
  const what = revision === 'main' ? id : `${id}@${revision}`;
  const { modelInfo } = await import('@huggingface/hub');
  const info = await understood(client, id, () =>
    modelInfo({
      name: id,
      revision,
      additionalFields: ['sha'],
      hubUrl: client.settings.endpoint,
      fetch: client.fetchFor(what, retry),
    }),
  );
  const commit: unknown = info.sha;
  if (typeof commit !== 'string' || !isCommit(commit)) {
    throw nonsense(id, `names ${shown(String(commit))} as its commit`);
  }
  return { id, commit, private: info.private, gated: Boolean(info.gated) };
}

/** All files of a commit, or none of them. */
export async function listModel(
  client: HubClient,
  model: Pick<RemoteModel, 'id' | 'commit'>,
): Promise<RemoteFile[]> {
  return await understood(client, model.id, () => allFiles(client, model));
}

async function allFiles(
  client: HubClient,
  { id, commit }: Pick<RemoteModel, 'id' | 'commit'>,
): Promise<RemoteFile[]> {
  const { listFiles } = await import('@huggingface/hub');
  const files: RemoteFile[] = [];
  const entries = listFiles({
    repo: { type: 'model', name: id },
    revision: commit,
    recursive: true,
    hubUrl: client.settings.endpoint,
    fetch: client.fetchFor(`the files of ${id}`),
  });
  for await (const entry of entries) {
    const { type, path, size, oid, lfs } = entry as unknown as Record<string, unknown>;
    if (type === 'directory') continue;
    if (typeof path !== 'string') throw nonsense(id, 'lists a file without a name');
    files.push({ path, ...identityOf(id, path, size, oid, lfs) });
    if (files.length > MAX_FILES) {
      throw new MlxkError(
        'validation_error',
        `${id} has more than ${MAX_FILES} files: that is no model`,
        { reason: 'too_many_files', detail: { model: id, limit: MAX_FILES } },
      );
    }
  }
  checkFileNames(
    id,
    files.map((file) => file.path),
  );
  return files;
}

function identityOf(
  id: string,
  path: string,
  size: unknown,
  oid: unknown,
  lfs: unknown,
): { bytes: number; blob: string } {
  const large =
    typeof lfs === 'object' && lfs !== null ? (lfs as Record<string, unknown>) : undefined;
  const blob = large === undefined ? oid : large.oid;
  const bytes = large?.size ?? size;
  const pattern = large === undefined ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/;
  if (typeof blob !== 'string' || !pattern.test(blob)) {
    throw nonsense(id, `gives ${shown(path)} the hash ${shown(String(blob))}`);
  }
  if (!Number.isSafeInteger(bytes) || (bytes as number) < 0) {
    throw nonsense(id, `gives ${shown(path)} the size ${shown(String(bytes))}`);
  }
  return { bytes: bytes as number, blob };
}

/** The hub's library takes an answer for what it should be: a page in its place, or `null`, breaks it somewhere. */
async function understood<T>(client: HubClient, id: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    client.signal.throwIfAborted();
    if (error instanceof MlxkError) throw error;
    const { endpoint } = client.settings;
    throw new MlxkError(
      'download_failed',
      `what ${endpoint} says of ${id} is no answer of a hub (${shown((error as Error).message)}): ` +
        'is HF_ENDPOINT right, and does nothing stand in between, such as a sign-in page?',
      { reason: 'answer_invalid', detail: { endpoint }, cause: error },
    );
  }
}

/** A page of the listing that cannot be true is not guessed at. */
function nonsense(id: string, what: string): MlxkError {
  return new MlxkError('validation_error', `the hub's listing of ${id} ${what}`, {
    reason: 'listing_invalid',
    detail: { model: id },
  });
}
