/**
 * The `mlxk` program: finds its commands, reads the command line, and turns whatever happens into output and an exit
 * code. A command is one file under `commands/`; nothing here names one.
 */

import { readdirSync } from 'node:fs';
import os from 'node:os';

import { Command, CommanderError } from 'commander';

import { packageVersion } from '../package-info.js';
import { type CliContext, CommandFailure, type RegisterCommand } from './command.js';
import { envelope, Output } from './output.js';

/** Version of the JSON contract that this program's envelopes follow. */
const JSON_API_VERSION = '0.2.3';
const USAGE_EXIT_CODE = 2;

/** Runs one command line. Sets `process.exitCode`; never throws. */
export async function main(argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  const output = new Output();
  output.endQuietlyOnClosedPipe();
  const context: CliContext = { output, json: wantsJson(argv) };
  try {
    const program = await createProgram(context);
    if (argv.every((word) => word === '--json')) {
      process.exitCode = await explainMissingCommand(program, context);
    } else {
      await program.parseAsync(argv, { from: 'user' });
    }
  } catch (error) {
    process.exitCode = await report(error, context);
  }
}

async function createProgram(context: CliContext): Promise<Command> {
  const program = new Command('mlxk')
    .description('MLX language models on this machine')
    .version(versionText(context.json), '-V, --version', 'show the version')
    .option('--json', 'print one JSON object')
    .showHelpAfterError('Run "mlxk --help" or "mlxk <command> --help" for help.')
    .exitOverride();
  if (context.json) program.configureOutput({ writeErr: () => undefined });
  for (const register of await commands()) register(program, context);
  return program;
}

async function commands(): Promise<RegisterCommand[]> {
  const folder = new URL('./commands/', import.meta.url);
  const files = readdirSync(folder).filter((file) => /^[a-z-]+\.js$/.test(file));
  return await Promise.all(
    files.sort().map(async (file) => {
      const module = (await import(new URL(file, folder).href)) as { register: RegisterCommand };
      return module.register;
    }),
  );
}

async function explainMissingCommand(program: Command, context: CliContext): Promise<number> {
  if (!context.json) {
    await context.output.write(program.helpInformation());
    return USAGE_EXIT_CODE;
  }
  await context.output.failure(null, { type: 'CommandError', message: 'No command specified' });
  return 1;
}

async function report(error: unknown, { output, json }: CliContext): Promise<number> {
  if (error instanceof CommandFailure) {
    if (json) await output.failure(error.command, error.error);
    else output.note(`${error.label}: ${error.message}`);
    return error.exitCode;
  }
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // Help or version was shown.
    const message = error.message.replace(/^error: /, '');
    if (json) await output.failure(null, { type: 'CommandError', message });
    return USAGE_EXIT_CODE;
  }
  const message = error instanceof Error ? error.message : String(error);
  if (json) await output.failure(null, { type: 'InternalError', message });
  else output.note(`Error: ${message}`);
  return 1;
}

function versionText(json: boolean): string {
  const version = packageVersion();
  if (!json) return `mlxk ${version}`;
  const data = {
    cli_version: version,
    json_api_spec_version: JSON_API_VERSION,
    system: { memory_total_bytes: os.totalmem() },
  };
  return envelope({ status: 'success', command: 'version', data, error: null }).trimEnd();
}

/** Words after `--` are no options. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end).includes('--json');
}
