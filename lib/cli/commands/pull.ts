/**
 * `mlxk pull`: downloads a model into the Hugging Face cache, or what is missing of it.
 */

import type { Command } from 'commander';

import type { PullTarget } from '../../cache/pull-target.js';
import type { PullResult } from '../../cache/pull-types.js';
import { MlxkError } from '../../errors.js';
import { visibleLine } from '../../visible.js';
import { type CliContext, CommandFailure, type Data, operation } from '../command.js';
import { canAsk, confirm } from '../confirm.js';
import { INTERRUPTED, Interrupts } from '../interrupt.js';

const EXAMPLES = `
Examples:
  mlxk pull org/model                         download, or say that it is there
  mlxk pull org/model@v1.0                    a branch, tag or commit
  mlxk pull org/model --force-resume          complete what is broken, without asking
  mlxk pull org/model --verify                mend what a disk or a transfer spoilt
  mlxk pull org/model --include "*.json"      some files ("*" crosses folders)

Ctrl-C keeps what has arrived: the same command goes on from there. HF_TOKEN opens private and gated models;
HF_ENDPOINT names another hub, HF_HOME or HF_HUB_CACHE another cache.
`;

interface PullFlags {
  readonly forceResume?: boolean;
  readonly revision?: string;
  readonly include?: string[];
  readonly exclude?: string[];
  readonly verify?: boolean;
  readonly jsonProgress?: boolean;
}

/** What the contract calls a way to end. */
type Status = 'already_exists' | 'requires_confirmation' | 'success';

export function register(program: Command, context: CliContext): void {
  program
    .command('pull')
    .summary('download a model')
    .description('Downloads a model from the Hugging Face hub into the cache.')
    .argument('<model>', 'hub id, or id@revision')
    .option('--force-resume', 'complete an unhealthy model without asking')
    .option('--revision <revision>', 'branch, tag or commit (default: main)')
    .option('--include <pattern>', 'only files that it fits; may be repeated', collect)
    .option('--exclude <pattern>', 'no files that it fits; may be repeated', collect)
    .option('--verify', 'compare what is here with its hash, and fetch anew what is wrong')
    .option('--json-progress', 'report progress as JSON lines on standard error')
    .addHelpText('after', EXAMPLES)
    .action((spec: string, flags: PullFlags) =>
      operation(
        'pull',
        {
          fallback: 'pull_operation_failed',
          names: { validation_error: 'ValidationError' },
          data: (cause) => refusal(spec, cause),
        },
        () => pullCommand(spec, flags, context),
      ),
    );
}

async function pullCommand(spec: string, flags: PullFlags, context: CliContext): Promise<void> {
  const [{ pullTarget }, { BUILTIN }] = await Promise.all([
    import('../../cache/pull-target.js'),
    import('../../cache/locate.js'),
  ]);
  if (spec === BUILTIN) {
    const builtin = { id: BUILTIN, revision: undefined, present: undefined };
    await tell(context, spec, builtin, 'already_exists', 'comes with the package');
    return;
  }
  const target = pullTarget(spec, flags.revision);
  const { present } = target;
  // Whoever names files wants those files, whatever else is there; whoever doubts them, sound ones.
  const isAsked =
    flags.include !== undefined || flags.exclude !== undefined || flags.verify === true;
  if (present !== undefined && flags.forceResume !== true && !isAsked) {
    if (present.health.healthy) {
      await tell(context, spec, target, 'already_exists', 'already here and healthy');
      return;
    }
    if (!(await mayResume(spec, target, present.health.reason, context))) return;
  }
  await download(spec, target, flags, context);
}

/** Whether a person wants an unhealthy model completed; programs are told to ask for it. */
async function mayResume(
  spec: string,
  target: PullTarget,
  reason: string,
  context: CliContext,
): Promise<boolean> {
  const message = `${reason}. Use --force-resume to complete the download, or "mlxk rm" to start over`;
  if (context.json) {
    await tell(context, spec, target, 'requires_confirmation', message);
    return false;
  }
  if (!canAsk()) {
    throw new MlxkError('requires_confirmation', `${target.id} is unhealthy: ${message}`, {
      reason: 'unhealthy',
      detail: { model: target.id },
    });
  }
  context.output.note(`${target.id} is unhealthy: ${reason}`);
  if (await confirm('Resume download?')) return true;
  context.output.note('Nothing was downloaded.');
  return false;
}

async function download(
  spec: string,
  target: PullTarget,
  flags: PullFlags,
  context: CliContext,
): Promise<void> {
  const [{ pull }, { health }, { progressView }] = await Promise.all([
    import('../../cache/pull.js'),
    import('../../cache/health.js'),
    import('../pull-progress.js'),
  ]);
  const view = progressView(context.output, {
    json: context.json,
    jsonLines: flags.jsonProgress ?? false,
  });
  const stopping = new AbortController();
  const interrupts = new Interrupts();
  interrupts.beforeLeaving = () => {
    view.end();
  };
  let result: PullResult;
  try {
    const work = pull(target.id, {
      revision: target.revision,
      include: flags.include,
      exclude: flags.exclude,
      verify: flags.verify,
      signal: stopping.signal,
      onProgress: (event) => {
        view.show(event);
      },
    });
    const stop = (): void => {
      stopping.abort();
    };
    result = (await interrupts.guard(stop, () => work)).value;
  } catch (error) {
    throw stopping.signal.aborted ? interrupted(spec, target) : error;
  } finally {
    view.end();
  }
  const state = health(result.folder);
  const problem = state.healthy ? '' : `, but it is unhealthy: ${state.reason}`;
  const what = result.fetchedBytes === 0 ? 'is complete' : 'downloaded';
  await tell(context, spec, target, 'success', `${what} to ${result.folder}${problem}`, result);
}

async function tell(
  { output, json }: CliContext,
  spec: string,
  target: PullTarget,
  status: Status,
  message: string,
  result?: PullResult,
): Promise<void> {
  if (!json) {
    if (result?.warning !== undefined) output.note(`pull: Warning: ${result.warning}`);
    await output.print(`pull: ${visibleLine(target.id)} — ${visibleLine(message)}\n`);
    return;
  }
  const commit = result?.commit ?? target.present?.commit;
  await output.success('pull', {
    model: target.id,
    download_status: status,
    message,
    expanded_name: spec.split('@', 1)[0] === target.id ? null : target.id,
    ...(commit !== undefined && { commit_hash: commit }),
    ...(result?.warning !== undefined && { preflight_warning: result.warning }),
  });
}

function interrupted(spec: string, { id }: PullTarget): CommandFailure {
  const message = `interrupted: "mlxk pull ${spec}" goes on from here`;
  return new CommandFailure({
    command: 'pull',
    error: { type: 'download_failed', message, detail: { reason: 'interrupted' }, retryable: true },
    data: { model: id, download_status: 'failed', message, expanded_name: null },
    exitCode: INTERRUPTED,
  });
}

/** What the contract tells of a download that did not happen. */
function refusal(spec: string, cause: unknown): Data {
  return {
    model: spec,
    download_status: failedStatus(cause),
    message: cause instanceof Error ? cause.message : String(cause),
    expanded_name: null,
  };
}

function failedStatus(cause: unknown): string {
  if (!(cause instanceof MlxkError)) return 'error';
  if (cause.code === 'ambiguous_match') return 'unknown';
  if (cause.code === 'access_denied') return 'access_denied';
  if (cause.code === 'requires_confirmation') return 'requires_confirmation';
  return cause.code === 'download_failed' ? 'failed' : 'error';
}

function collect(pattern: string, earlier: string[] = []): string[] {
  return [...earlier, pattern];
}
