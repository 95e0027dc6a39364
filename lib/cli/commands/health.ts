/**
 * `mlxk health`: which models are whole. Unhealthy models are an answer, not a failure.
 */

import type { Command } from 'commander';

import type { HealthEntry } from '../../cache/check.js';
import type { DeepProgress } from '../../cache/deep.js';
import { visibleLine } from '../../visible.js';
import { type CliContext, operation } from '../command.js';
import { INTERRUPTED, Interrupts } from '../interrupt.js';

const EXAMPLES = `
Examples:
  mlxk health                   all models
  mlxk health org/model         one model
  mlxk health org/model --deep  also compare every byte with the hash it was downloaded by
  mlxk health ./my-model
`;

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('health')
    .summary('check the files of models')
    .description('Checks whether the files of a model, or of all models, are whole.')
    .argument('[model]', 'hub id, a unique part of one, id@revision, or a folder')
    .option('--deep', 'read every file and compare its hash')
    .addHelpText('after', EXAMPLES)
    .action((model: string | undefined, { deep = false }: { deep?: boolean }) =>
      operation('health', { fallback: 'health_check_failed' }, async () => {
        const { checkHealth } = await import('../../cache/check.js');
        const aborting = new AbortController();
        const interrupts = new Interrupts();
        const draw = (progress: DeepProgress): void => {
          if (output.showsProgress && !json) output.drawProgress(progressLine(progress));
        };
        const { value: report } = await interrupts
          .guard(
            () => {
              aborting.abort();
            },
            () => checkHealth(model, { deep, signal: aborting.signal, onProgress: draw }),
          )
          .catch((error: unknown) => {
            if (aborting.signal.aborted) process.exit(INTERRUPTED);
            throw error;
          })
          .finally(() => {
            output.clearProgress();
          });
        const { healthy, unhealthy } = report;
        if (json) {
          await output.success('health', {
            healthy: healthy.map(contractEntry),
            unhealthy: unhealthy.map(contractEntry),
            summary: {
              total: healthy.length + unhealthy.length,
              healthy_count: healthy.length,
              unhealthy_count: unhealthy.length,
            },
          });
        } else {
          await output.print(reportText(healthy, unhealthy));
          if (model !== undefined && healthy.length + unhealthy.length === 0) {
            output.hint(`There is no model "${model}".`);
          }
        }
      }),
    );
}

function contractEntry({ verifiedFiles, ...entry }: HealthEntry): Record<string, unknown> {
  return { ...entry, ...(verifiedFiles !== undefined && { verified_files: verifiedFiles }) };
}

function reportText(healthy: readonly HealthEntry[], unhealthy: readonly HealthEntry[]): string {
  const total = healthy.length + unhealthy.length;
  const summary = `Summary: total ${total}, healthy ${healthy.length}, unhealthy ${unhealthy.length}`;
  const lines = [...healthy, ...unhealthy].map(
    ({ name, status, reason, verifiedFiles }) =>
      `${status.padEnd(9)} ${visibleLine(name)} — ${visibleLine(reason)}` +
      (verifiedFiles === undefined ? '' : ` (${verifiedFiles} files compared)`),
  );
  return [...(total === 1 ? [] : [summary]), ...lines].map((line) => `${line}\n`).join('');
}

function progressLine({ model, doneBytes, totalBytes }: DeepProgress): string {
  const percent = totalBytes > 0 ? Math.floor((100 * doneBytes) / totalBytes) : 100;
  return `Reading ${visibleLine(model)}: ${percent} % of ${(totalBytes / 1e6).toFixed(0)} MB`;
}
