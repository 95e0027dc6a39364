/**
 * `mlxk version`, and `mlxk --version`: what this program and the contract it speaks are.
 */

import os from 'node:os';

import type { Command } from 'commander';

import { JSON_API_VERSION } from '../../contracts/json-api.js';
import { packageVersion } from '../../package-info.js';
import type { CliContext } from '../command.js';

const EXAMPLES = `
Examples:
  mlxk version
  mlxk --version --json
`;

export function register(program: Command, { output, json, programName }: CliContext): void {
  const show = async (): Promise<void> => {
    const version = packageVersion();
    if (!json) {
      await output.write(`${programName} ${version}\n`);
      return;
    }
    await output.success('version', {
      cli_version: version,
      json_api_spec_version: JSON_API_VERSION,
      system: { memory_total_bytes: os.totalmem() },
      engine: await engine(),
    });
  };
  program
    .command('version')
    .summary('show the version')
    .description(
      'Shows the version of the program; with --json also that of its contract, and what computes here.',
    )
    .addHelpText('after', EXAMPLES)
    .action(show);
}

/** What computes here, or null where the native addon does not load: `mlxk doctor` says why. */
async function engine(): Promise<Record<string, unknown> | null> {
  const { inspectAddon } = await import('../../doctor/inspect.js');
  try {
    const { version, cpu } = await inspectAddon(process.env);
    return {
      mlx_version: version.mlx,
      backend: version.backend,
      device: version.device,
      cpu_isa: 'error' in cpu ? null : cpu.isa,
      cpu_threads: 'error' in cpu ? null : cpu.threads,
    };
  } catch {
    return null;
  }
}
