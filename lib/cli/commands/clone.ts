/**
 * `mlxk clone`: a workspace of a model of the hub.
 */

import type { Command } from 'commander';

import { MlxkError } from '../../errors.js';
import type { CloneResult } from '../../workspace/clone.js';
import { type CliContext, CommandFailure, type Data, operation } from '../command.js';
import { Interrupts } from '../interrupt.js';

interface CloneFlags {
  readonly branch?: string;
  readonly healthCheck: boolean;
  readonly quiet?: boolean;
  readonly forceResume?: boolean;
  readonly jsonProgress?: boolean;
}

const EXAMPLES = `
Examples:
  mlxk clone org/model ./model
  mlxk clone org/model@v1.0 ./model            a branch, tag or commit
  mlxk clone org/model                         into MLXK_WORKSPACE_HOME, as "model"

The model cache is neither read nor written. Ctrl-C keeps what has arrived: the same command goes on from there.
`;

export function register(program: Command, context: CliContext): void {
  program
    .command('clone')
    .summary('make a workspace of a model of the hub')
    .description('Downloads a model into a folder of its own, to be changed there.')
    .argument('<model>', 'hub id, or id@revision')
    .argument('[target]', 'folder to make (default: the name of the model in MLXK_WORKSPACE_HOME)')
    .option('--branch <branch>', 'branch, tag or commit (default: main)')
    .option('--no-health-check', 'do not check the files')
    .option('--quiet', 'print less')
    .option('--force-resume', 'use a complete but unhealthy download as it is')
    .option('--json-progress', 'report progress as JSON lines on standard error')
    .addHelpText('after', EXAMPLES)
    .action(async (model: string, target: string | undefined, flags: CloneFlags) => {
      await run(model, target, flags, context);
    });
}

/** What the contract calls a failure of each step. */
const FAILURES: Readonly<Record<string, { type: string; status: string }>> = {
  target: { type: 'InvalidTargetError', status: 'error' },
  pull: { type: 'PullFailedError', status: 'pull_failed' },
};

async function run(
  model: string,
  target: string | undefined,
  flags: CloneFlags,
  context: CliContext,
): Promise<void> {
  const [{ clone, cloneTarget, temporaryCacheOf }, { progressView }] = await Promise.all([
    import('../../workspace/clone.js'),
    import('../pull-progress.js'),
  ]);
  const spec = flags.branch === undefined ? model : `${model}@${flags.branch}`;
  const folder = await cloneTarget(spec.split('@', 1)[0] ?? spec, target).catch(() => null);
  const base = { model: spec, target_dir: folder, health_check: flags.healthCheck };
  await operation('clone', { fallback: 'CloneOperationError' }, async () => {
    const aborted = new AbortController();
    const stop = (): void => {
      aborted.abort();
    };
    const interrupts = new Interrupts();
    const view = progressView(context.output, {
      json: context.json,
      jsonLines: flags.jsonProgress ?? false,
    });
    interrupts.beforeLeaving = () => {
      view.end();
    };
    const work = async (): Promise<CloneResult> =>
      await clone(spec, target, {
        forceResume: flags.forceResume,
        skipHealth: !flags.healthCheck,
        signal: aborted.signal,
        onProgress: (event) => {
          view.show(event);
        },
      });
    let result: CloneResult;
    try {
      result = (await interrupts.guard(stop, work)).value;
    } catch (cause) {
      const kept = folder === null ? '' : temporaryCacheOf(spec, folder);
      throw aborted.signal.aborted ? cancelled(kept, base, cause) : failureOf(cause, base);
    } finally {
      view.end();
    }
    await show(result, flags, base, context);
  });
}

async function show(
  result: CloneResult,
  flags: CloneFlags,
  base: Data,
  { output, json }: CliContext,
): Promise<void> {
  const { health, target } = result;
  if (json) {
    await output.success('clone', {
      ...base,
      clone_status: 'success',
      message: `Cloned to ${target}`,
      ...(health !== undefined && {
        health: health.healthy ? 'healthy' : 'unhealthy',
        health_reason: health.reason,
      }),
    });
    return;
  }
  const state =
    health === undefined || flags.quiet === true
      ? ''
      : health.healthy
        ? ' (✓ healthy)'
        : ` (⚠ unhealthy: ${health.reason})`;
  await output.print(`clone: ${String(base['model'])} → ${target}${state}\n`);
}

function cancelled(kept: string, base: Data, cause: unknown): CommandFailure {
  const message =
    `Operation cancelled by user. Partial download kept in ${kept}; ` +
    'run the same command again to resume';
  return failure('UserCancelledError', 'cancelled', message, base, cause);
}

function failureOf(cause: unknown, base: Data): CommandFailure {
  const message = cause instanceof Error ? cause.message : String(cause);
  const step = cause instanceof MlxkError ? cause.detail['step'] : undefined;
  const known = typeof step === 'string' ? FAILURES[step] : undefined;
  if (known !== undefined) return failure(known.type, known.status, message, base, cause);
  const isSystem = (cause as NodeJS.ErrnoException).syscall !== undefined;
  const isCopy = isSystem || cause instanceof MlxkError;
  return isCopy
    ? failure('CloneFailedError', 'filesystem_error', message, base, cause)
    : failure('CloneOperationError', 'error', message, base, cause);
}

function failure(
  type: string,
  status: string,
  message: string,
  base: Data,
  cause: unknown,
): CommandFailure {
  const detail = cause instanceof MlxkError ? { detail: cause.detail } : {};
  const retryable = cause instanceof MlxkError && cause.retryable ? { retryable: true } : {};
  return new CommandFailure({
    command: 'clone',
    error: { type, message, ...detail, ...retryable },
    data: { ...base, clone_status: status, message },
    cause,
  });
}
