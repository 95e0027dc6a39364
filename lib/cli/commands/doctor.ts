/**
 * `mlxk doctor`: what is right and wrong with this installation. Findings are an answer, not a failure.
 */

import type { Command } from 'commander';

import type { Finding, Status } from '../../doctor/index.js';
import { visibleLine } from '../../visible.js';
import { type CliContext, operation } from '../command.js';

const EXAMPLES = `
Examples:
  mlxk doctor
  mlxk doctor --json | jq '.data.checks[] | select(.status == "error")'
  HF_HUB_OFFLINE=1 mlxk doctor      ask nothing of the hub
`;

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('doctor')
    .summary('examine this installation')
    .description(
      'Examines platform, engine, memory, cache, hub and token; says for each finding what mends it.',
    )
    .addHelpText('after', EXAMPLES)
    .action(() =>
      operation('doctor', { fallback: 'internal_error' }, async () => {
        const { examine } = await import('../../doctor/index.js');
        const checks = await examine();
        if (json) {
          await output.success('doctor', { checks, summary: counts(checks) });
          return;
        }
        await output.print(checks.map(line).join(''));
      }),
    );
}

function counts(findings: readonly Finding[]): Record<Status, number> {
  const count = { ok: 0, warning: 0, error: 0, skipped: 0 };
  for (const { status } of findings) count[status] += 1;
  return count;
}

function line({ name, status, message, fix }: Finding): string {
  const indent = ' '.repeat(20);
  return (
    `${status.padEnd(8)} ${name.padEnd(11)}${visibleLine(message)}\n` +
    (fix === null ? '' : `${indent}fix: ${visibleLine(fix)}\n`)
  );
}
