/**
 * Publishes a workspace as a model repository of the hub, in one commit. Private: what is not there is made private,
 * and what is public is not pushed to. Nothing on the hub changes before that commit.
 */

import { openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';

import type { CommitOperation } from '@huggingface/hub';

import { CALLBACK, check, checkOptions, FLAG, MEMBERS, SIGNAL, TEXT } from '../cache/arguments.js';
import { MlxkError } from '../errors.js';
import { HubClient } from '../hub/client.js';
import { listModel, readModel, type RemoteFile } from '../hub/listing.js';
import { checkRepositoryId, checkRevision } from '../hub/names.js';
import type { RetryPolicy } from '../hub/retry.js';
import { hubSettings } from '../hub/settings.js';
import { type LocalFile, publishedFiles } from './files.js';
import { planPush, type PushPlan } from './plan.js';

export interface PushOptions {
  /** Default: `main`. */
  readonly branch?: string | undefined;
  /** Default: `mlx-knife push`. */
  readonly message?: string | undefined;
  /** Make the repository (private) and the branch when they are missing. */
  readonly create?: boolean | undefined;
  /** Delete what is on the hub only. */
  readonly deleteRemoteOnly?: boolean | undefined;
  /** Only say what would be done. */
  readonly dryRun?: boolean | undefined;
  readonly onProgress?: ((event: PushEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly token?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly retry?: RetryPolicy | undefined;
}

/** Share of one file, from 0 to 1. */
export interface PushEvent {
  readonly file: string;
  readonly state: 'hashing' | 'uploading';
  readonly progress: number;
}

export interface PushResult {
  readonly repository: string;
  readonly branch: string;
  readonly repositoryUrl: string;
  /** `null` after a dry run, and when there was nothing to commit. */
  readonly commit: string | null;
  readonly commitUrl: string | null;
  readonly localFiles: number;
  readonly added: readonly string[];
  readonly modified: readonly string[];
  /** On the hub and not here; deleted only with `deleteRemoteOnly`. */
  readonly remoteOnly: readonly string[];
  readonly deleted: number;
  /** Whether this push made, or a dry run would make, the repository. */
  readonly createsRepository: boolean;
  readonly createsBranch: boolean;
}

interface Remote {
  /** Absent when the branch, or the repository, is not there. */
  readonly commit?: string;
  readonly files: readonly RemoteFile[];
  readonly hasRepository: boolean;
}

/**
 * Uploads a workspace to `org/name`. Experimental.
 *
 * @throws TypeError naming a wrong argument; MlxkError `auth_error` (no token, or not a valid one),
 * `workspace_not_found`, `repo_not_found`, `branch_create_failed`, `upload_failed`, `push_operation_failed` (reason `repository_public`), `validation_error`.
 */
export async function push(
  folder: string,
  repository: string,
  options: PushOptions = {},
): Promise<PushResult> {
  check('folder', folder, TEXT);
  check('repository', repository, TEXT);
  checkOptions(options, {
    branch: TEXT,
    message: TEXT,
    create: FLAG,
    deleteRemoteOnly: FLAG,
    dryRun: FLAG,
    onProgress: CALLBACK,
    signal: SIGNAL,
    token: TEXT,
    endpoint: TEXT,
    retry: MEMBERS,
  });
  const branch = options.branch ?? 'main';
  checkRepositoryId(repository);
  checkRevision(branch);
  if (!repository.includes('/')) {
    throw new MlxkError('validation_error', `"${repository}" needs an owner: org/${repository}`, {
      reason: 'repository_id_invalid',
    });
  }
  const workspace = path.resolve(folder);
  if (!((await stat(workspace).catch(() => undefined))?.isDirectory() ?? false)) {
    throw new MlxkError('workspace_not_found', `there is no folder ${workspace}`, {
      reason: 'folder_missing',
      detail: { folder: workspace },
    });
  }
  const client = await authorized(options);
  const local = await publishedFiles(workspace);
  const remote = await readRemote(client, repository, branch);
  const plan = await planPush(local, remote.files, client.signal);
  const deletes = options.deleteRemoteOnly === true ? plan.remoteOnly : [];
  const result = {
    repository,
    branch,
    repositoryUrl: `${client.settings.endpoint}/${repository}`,
    localFiles: local.length,
    added: plan.added.map((file) => file.path),
    modified: plan.modified.map((file) => file.path),
    remoteOnly: plan.remoteOnly,
    deleted: deletes.length,
    createsRepository: !remote.hasRepository,
    createsBranch: remote.commit === undefined && !(branch === 'main' && !remote.hasRepository),
  };
  if (options.dryRun === true) return { ...result, commit: null, commitUrl: null };
  const parent = await prepare(client, result, remote, options);
  const operations = await operationsOf(plan, deletes);
  if (operations.length === 0) return { ...result, commit: null, commitUrl: null };
  const commit = await upload(client, result, operations, parent, options);
  return { ...result, commit: commit.oid, commitUrl: commit.url };
}

async function authorized(options: PushOptions): Promise<HubClient> {
  const settings = await hubSettings(options);
  if (settings.offline) {
    throw new MlxkError('upload_failed', 'nothing can be uploaded: HF_HUB_OFFLINE is set', {
      reason: 'offline',
    });
  }
  if (settings.token === undefined) {
    throw new MlxkError('auth_error', 'HF_TOKEN not set', { reason: 'token_missing' });
  }
  const signal = options.signal ?? new AbortController().signal;
  return new HubClient(settings, { signal, ...(options.retry && { retry: options.retry }) });
}

async function readRemote(client: HubClient, repository: string, branch: string): Promise<Remote> {
  try {
    const model = await readModel(client, repository, branch);
    if (!model.private) {
      throw new MlxkError(
        'push_operation_failed',
        `${repository} is public, and a push is private: make it private on the hub first`,
        { reason: 'repository_public', detail: { repository } },
      );
    }
    return { commit: model.commit, files: await listModel(client, model), hasRepository: true };
  } catch (error) {
    if (!(error instanceof MlxkError)) throw error;
    if (error.reason === 'repository_not_found') return { files: [], hasRepository: false };
    if (error.reason === 'revision_not_found') return { files: [], hasRepository: true };
    throw asPushFailure(error);
  }
}

/** Makes what is missing, if that is wanted. Tells the commit to build on. */
async function prepare(
  client: HubClient,
  {
    repository,
    branch,
    createsRepository,
    createsBranch,
  }: Omit<PushResult, 'commit' | 'commitUrl'>,
  remote: Remote,
  { create = false }: PushOptions,
): Promise<string | undefined> {
  const { createRepo, createBranch } = await import('@huggingface/hub');
  const where = {
    repo: { type: 'model', name: repository } as const,
    hubUrl: client.settings.endpoint,
    fetch: client.fetchFor(repository),
  };
  if (createsRepository) {
    if (!create) {
      throw new MlxkError('repo_not_found', `${repository} is not on the hub: --create makes it`, {
        reason: 'repository_not_found',
      });
    }
    // Our own fetch puts the token in; what the library would send is dropped.
    const unused = 'hf_';
    await createRepo({ ...where, visibility: 'private', accessToken: unused }).catch(rethrow);
  }
  if (!createsBranch) return remote.commit;
  if (!create) {
    throw new MlxkError(
      'upload_failed',
      `${repository} has no branch ${branch}: --create makes it`,
      {
        reason: 'revision_not_found',
      },
    );
  }
  await createBranch({ ...where, branch }).catch((error: unknown) => {
    throw new MlxkError(
      'branch_create_failed',
      `the branch ${branch} of ${repository} could not be made: ${(error as Error).message}`,
      { reason: 'branch_create_failed', cause: error },
    );
  });
  return undefined;
}

async function operationsOf(
  plan: PushPlan,
  deletes: readonly string[],
): Promise<CommitOperation[]> {
  const uploads = await Promise.all([...plan.added, ...plan.modified].map(uploadOf));
  return [...uploads, ...deletes.map((name) => ({ operation: 'delete', path: name }) as const)];
}

/** The blob of a file: reading it fails when the file has changed since. */
async function uploadOf(file: LocalFile): Promise<CommitOperation> {
  return { operation: 'addOrUpdate', path: file.path, content: await openAsBlob(file.file) };
}

async function upload(
  client: HubClient,
  { repository, branch }: { repository: string; branch: string },
  operations: CommitOperation[],
  parentCommit: string | undefined,
  { message = 'mlx-knife push', onProgress }: PushOptions,
): Promise<{ oid: string; url: string }> {
  const { commitIter } = await import('@huggingface/hub');
  const steps = commitIter({
    title: message,
    repo: { type: 'model', name: repository },
    branch,
    operations,
    hubUrl: client.settings.endpoint,
    fetch: client.fetchFor(`${repository}@${branch}`),
    abortSignal: client.signal,
    ...(parentCommit !== undefined && { parentCommit }),
  });
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done === true) {
        if (step.value === undefined) throw new Error('the hub named no commit');
        return step.value.commit;
      }
      const event = step.value;
      if (event.event === 'fileProgress' && event.state !== 'error') {
        onProgress?.({ file: event.path, state: event.state, progress: event.progress });
      }
    }
  } catch (error) {
    client.signal.throwIfAborted();
    return rethrow(error);
  }
}

function rethrow(error: unknown): never {
  throw asPushFailure(error);
}

/** The hub's refusals in the words of a push. */
function asPushFailure(error: unknown): MlxkError {
  if (!(error instanceof MlxkError)) {
    return new MlxkError('upload_failed', `the upload failed: ${(error as Error).message}`, {
      reason: 'upload_failed',
      cause: error,
    });
  }
  if (error.code === 'push_operation_failed' || error.code === 'validation_error') return error;
  const refused = ['token_refused', 'forbidden', 'gated'].includes(error.reason);
  return new MlxkError(refused ? 'auth_error' : 'upload_failed', error.message, {
    reason: error.reason,
    detail: error.detail,
    cause: error,
  });
}
