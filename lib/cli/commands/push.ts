/**
 * `mlxk push`: publishes a workspace on the hub, privately. Experimental.
 */

import type { Command } from 'commander';

import type { WorkspaceHealth } from '../../push/health.js';
import type { PushResult } from '../../push/push.js';
import { MlxkError } from '../../errors.js';
import { visibleLine } from '../../visible.js';
import { type CliContext, CommandFailure, type Data, operation } from '../command.js';
import { EXPERIMENTAL_VARIABLE, requireExperimental } from '../experimental.js';
import { INTERRUPTED, Interrupts } from '../interrupt.js';

const DISCLAIMER = 'Experimental: check what was uploaded on the hub.';
const LISTED_FILES = 20;

const EXAMPLES = `
Examples:
  mlxk push ./my-model org/my-model --private --check-only   what is wrong with it; needs no network
  mlxk push ./my-model org/my-model --private --dry-run      what would change
  mlxk push ./my-model org/my-model --private --create       publish; make the repository if need be

Experimental: set ${EXPERIMENTAL_VARIABLE}=1. Needs HF_TOKEN with write access. Files only on the hub stay there unless
--delete is given. Not uploaded: .git, Python's caches, what .hfignore names, and the workspace's own .mlxk_workspace.json.
`;

interface PushFlags {
  readonly create?: boolean;
  readonly branch: string;
  readonly commit: string;
  readonly checkOnly?: boolean;
  readonly dryRun?: boolean;
  readonly delete?: boolean;
  readonly verbose?: boolean;
}

export function register(program: Command, context: CliContext): void {
  program
    .command('push')
    .summary('publish a workspace, privately (experimental)')
    .description(
      'Uploads a workspace to a private repository of the Hugging Face hub. Experimental.',
    )
    .argument('<folder>', 'workspace')
    .argument('<repository>', 'org/model')
    .requiredOption('--private', 'nothing is made public; has to be said')
    .option('--create', 'make the repository and the branch if they are missing')
    .option('--branch <name>', 'branch to commit to', 'main')
    .option('--commit <message>', 'what the commit says', 'mlx-knife push')
    .option('--check-only', 'look for mistakes in the workspace; upload nothing, ask nobody')
    .option('--dry-run', 'say what would change; upload nothing')
    .option('--delete', 'also delete files that are only on the hub')
    .option('--verbose', 'more about the commit, and progress')
    .addHelpText('after', EXAMPLES)
    .action((folder: string, repository: string, flags: PushFlags) =>
      operation(
        'push',
        {
          fallback: 'push_operation_failed',
          names: { access_denied: 'auth_error', download_failed: 'upload_failed' },
          data: (cause) => ({
            ...blank(repository, flags.branch),
            message: cause instanceof Error ? cause.message : String(cause),
          }),
        },
        async () => {
          requireExperimental('push');
          const { pushedFolder } = await import('../../push/workspace.js');
          const workspace = await pushedFolder(folder);
          if (flags.checkOnly === true) await check(workspace, repository, flags, context);
          else await publish(workspace, repository, flags, context);
        },
      ),
    );
}

async function check(
  workspace: string,
  repository: string,
  flags: PushFlags,
  { output, json }: CliContext,
): Promise<void> {
  const { workspaceHealth } = await import('../../push/health.js');
  const health = workspaceHealth(workspace);
  const message = health.healthy
    ? `Check-only: ${health.filesCount} files, healthy`
    : `Check-only: ${health.anomalies.length} problem(s) found`;
  if (json) {
    await output.success('push', {
      ...blank(repository, flags.branch),
      local_files_count: health.filesCount,
      message,
      workspace_health: healthData(health),
    });
    return;
  }
  await output.print(`push (experimental): ${repository}@${flags.branch} — ${message}\n`);
  for (const { severity, message: what } of health.anomalies) {
    await output.print(`  ${severity}: ${visibleLine(what)}\n`);
  }
}

async function publish(
  workspace: string,
  repository: string,
  flags: PushFlags,
  { output, json }: CliContext,
): Promise<void> {
  const { push } = await import('../../push/push.js');
  const stopping = new AbortController();
  const interrupts = new Interrupts();
  let result: PushResult;
  try {
    const work = push(workspace, repository, {
      branch: flags.branch,
      message: flags.commit,
      create: flags.create,
      dryRun: flags.dryRun,
      deleteRemoteOnly: flags.delete,
      signal: stopping.signal,
      onProgress: ({ file, state, progress }) => {
        if (json || !output.showsProgress) return;
        output.drawProgress(`${state} ${visibleLine(file)}: ${Math.floor(100 * progress)} %`);
      },
    });
    const stop = (): void => {
      stopping.abort();
    };
    result = (await interrupts.guard(stop, () => work)).value;
  } catch (error) {
    throw stopping.signal.aborted ? interrupted(repository, flags.branch) : error;
  } finally {
    output.clearProgress();
  }
  const dryRun = flags.dryRun === true;
  if (json) await output.success('push', dryRun ? dryRunData(result) : pushData(result));
  else await output.print(`${humanLine(result, flags, dryRun)}\n`);
}

/** What the contract always tells of a push. */
function blank(repository: string, branch: string): Data {
  return {
    ...{ repo_id: repository, branch, commit_sha: null, commit_url: null, repo_url: null },
    ...{ uploaded_files_count: null, local_files_count: null, no_changes: null },
    ...{ created_repo: false, message: null, experimental: true, disclaimer: DISCLAIMER },
  };
}

function pushData(result: PushResult): Data {
  const { added, modified, deleted } = result;
  const noChanges = result.commit === null;
  return {
    ...blank(result.repository, result.branch),
    commit_sha: result.commit,
    commit_url: result.commitUrl,
    repo_url: result.repositoryUrl,
    uploaded_files_count: noChanges ? 0 : added.length + modified.length,
    local_files_count: result.localFiles,
    no_changes: noChanges,
    created_repo: result.createsRepository,
    message: noChanges ? 'No changes' : 'Push successful',
    change_summary: { added: added.length, modified: modified.length, deleted },
  };
}

function dryRunData(result: PushResult): Data {
  const { added, modified, remoteOnly } = result;
  const noChanges = added.length + modified.length + remoteOnly.length === 0;
  return {
    ...blank(result.repository, result.branch),
    repo_url: result.repositoryUrl,
    uploaded_files_count: 0,
    local_files_count: result.localFiles,
    no_changes: noChanges,
    message: noChanges ? 'Dry-run: no changes' : `Dry-run: ${changes(result)}`,
    dry_run: true,
    dry_run_summary: {
      added: added.length,
      modified: noChanges ? 0 : null,
      deleted: remoteOnly.length,
    },
    would_create_repo: result.createsRepository,
    would_create_branch: result.createsBranch,
    would_delete_count: result.deleted,
    modified_files: modified.slice(0, LISTED_FILES),
    added_files: added.slice(0, LISTED_FILES),
    deleted_files: remoteOnly.slice(0, LISTED_FILES),
  };
}

/** The contract leaves changed files open (`~?`); which they are is told beside it. */
function changes({ added, remoteOnly }: PushResult): string {
  return `+${added.length} ~? -${remoteOnly.length}`;
}

function humanLine(result: PushResult, flags: PushFlags, dryRun: boolean): string {
  const { added, modified, remoteOnly, deleted, commit } = result;
  const start = `push (experimental): ${result.repository}@${result.branch} — `;
  if (dryRun) {
    const nothing = added.length + modified.length + remoteOnly.length === 0;
    const kept = remoteOnly.length > 0 && deleted === 0;
    return [
      `${start}dry-run: ${nothing ? 'no changes' : changes(result)}`,
      ...(modified.length > 0 ? [`  ${modified.length} changed`] : []),
      ...(kept ? [`  ${remoteOnly.length} only on the hub: kept, unless --delete is given`] : []),
      ...(result.createsRepository ? ['  create repo'] : []),
      ...(result.createsBranch ? ['  create branch'] : []),
    ].join('\n');
  }
  if (commit === null) return `${start}no changes`;
  const url = flags.verbose === true ? ` <${result.commitUrl ?? ''}>` : '';
  return `${start}commit ${commit.slice(0, 7)} (+${added.length} ~${modified.length} -${deleted})${url}`;
}

function healthData(health: WorkspaceHealth): Data {
  const { config, weights } = health;
  return {
    files_count: health.filesCount,
    total_bytes: health.totalBytes,
    config: {
      exists: config.exists,
      valid_json: config.validJson,
      path: config.exists ? 'config.json' : null,
    },
    weights: {
      count: weights.count,
      formats: weights.formats,
      index: { has_index: weights.hasIndex, missing: weights.missing },
      pattern_complete: weights.patternComplete,
    },
    anomalies: health.anomalies,
    healthy: health.healthy,
  };
}

function interrupted(repository: string, branch: string): CommandFailure {
  const error = new MlxkError('upload_failed', 'interrupted: nothing was committed', {
    reason: 'interrupted',
  });
  return new CommandFailure({
    command: 'push',
    error: { type: error.code, message: error.message, detail: error.detail, retryable: true },
    data: { ...blank(repository, branch), message: error.message },
    exitCode: INTERRUPTED,
  });
}
