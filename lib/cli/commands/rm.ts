/**
 * `mlxk rm`: deletes a model, or one revision of it, from the cache. Never asks.
 */

import type { Command } from 'commander';

import type { RemoveResult } from '../../cache/remove.js';
import { MlxkError } from '../../errors.js';
import { visibleLine } from '../../visible.js';
import { type CliContext, type Data, operation } from '../command.js';

const EXAMPLES = `
Examples:
  mlxk rm org/model             all of it
  mlxk rm org/model@1a2b3c4     one revision, and what only it needs
  mlxk rm model --force         by a part of its name
`;

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('rm')
    .summary('delete a model from the cache')
    .description('Deletes a model, or one revision of it, from the Hugging Face cache.')
    .argument('<model>', 'hub id, a unique part of one, or id@revision')
    .option('-f, --force', 'also by a part of its name, and while it is downloading')
    .addHelpText('after', EXAMPLES)
    .action((spec: string, { force = false }: { force?: boolean }) =>
      operation('rm', { fallback: 'deletion_failed', data: refusal }, async () => {
        const { remove } = await import('../../cache/remove.js');
        const result = await remove(spec, { force });
        if (json) await output.success('rm', success(result));
        else {
          const { model, action, message } = result;
          await output.print(`rm: ${visibleLine(model)} — ${action}: ${visibleLine(message)}\n`);
        }
      }),
    );
}

function success(result: RemoveResult): Data {
  return {
    model: result.model,
    action: result.action,
    message: result.message,
    requires_confirmation: result.action === 'requires_confirmation',
    matches: [],
    lock_files_cleaned: result.lockFilesCleaned,
    freed_bytes: result.freedBytes,
    ...(result.commitHash !== undefined && { commit_hash: result.commitHash }),
  };
}

/** What the contract tells of a deletion that did not happen. */
function refusal(cause: unknown): Data {
  const detail = cause instanceof MlxkError ? cause.detail : undefined;
  const matches = Array.isArray(detail?.matches) ? (detail.matches as unknown[]) : [];
  const locks = Array.isArray(detail?.lock_files) ? (detail.lock_files as unknown[]) : undefined;
  return {
    model: typeof detail?.model === 'string' ? detail.model : null,
    action: matches.length > 0 ? 'ambiguous' : 'unknown',
    message: cause instanceof Error ? cause.message : String(cause),
    requires_confirmation: false,
    matches,
    lock_files_cleaned: 0,
    ...(locks !== undefined && { locks_detected: true, lock_files: locks }),
  };
}
