/**
 * The `mlxk` program: finds its commands, reads the command line, and turns whatever happens into output and an exit
 * code. A command is one file under `commands/`, called as the command is; nothing here names one.
 */

import { readdirSync } from 'node:fs';
import path from 'node:path';

import { Command, CommanderError } from 'commander';

import { type CliContext, CommandFailure, type RegisterCommand } from './command.js';
import { Output } from './output.js';

const USAGE_EXIT_CODE = 2;

/** What the further names of the program put before the words of their command line. */
const IMPLIED_WORDS: Readonly<Record<string, readonly string[]>> = {
  'mlxk-json': ['--json'],
  'mlx-run': ['run'],
};

/** Runs one command line. Sets `process.exitCode`; never throws. */
export async function main(
  typed: readonly string[] = process.argv.slice(2),
  programName = path.basename(process.argv[1] ?? 'mlxk', '.js'),
): Promise<void> {
  const output = new Output();
  output.endOnFailedWrites();
  const argv = commandLine(programName, typed);
  const context: CliContext = {
    output,
    json: wantsJson(argv),
    programName,
    wholeProgram: () => createProgram(commandFiles(), context),
  };
  try {
    const program = await createProgram(neededFiles(argv), context);
    if (argv.every((word) => word === '--json')) {
      process.exitCode = await explainMissingCommand(program, context);
    } else {
      await program.parseAsync(argv, { from: 'user' });
    }
  } catch (error) {
    process.exitCode = await report(error, context);
  }
}

/** The words as if they had been typed to `mlxk`; asking for the version is a command too. */
function commandLine(programName: string, typed: readonly string[]): string[] {
  const argv = [...(IMPLIED_WORDS[programName] ?? []), ...typed];
  const words = argv.findIndex((word) => !word.startsWith('-'));
  const options = words < 0 ? argv : argv.slice(0, words);
  const isVersion = (word: string): boolean => word === '--version' || word === '-V';
  if (!options.some(isVersion)) return argv;
  return ['version', ...options.filter((word) => !isVersion(word))];
}

async function createProgram(files: readonly URL[], context: CliContext): Promise<Command> {
  const program = new Command(context.programName)
    .description('MLX language models on this machine')
    .option('-V, --version', 'show the version')
    .option('--json', 'print one JSON object')
    .showHelpAfterError(`Run "${context.programName} --help" for help.`)
    .enablePositionalOptions()
    .exitOverride();
  if (context.json) program.configureOutput({ writeErr: () => undefined });
  for (const file of files) {
    const module = (await import(file.href)) as { register: RegisterCommand };
    module.register(program, context);
  }
  for (const command of program.commands) {
    command.option('--json', 'print one JSON object');
    const call = `${context.programName} ${command.name()}`;
    command.showHelpAfterError(`Usage: ${call} ${command.usage()}\nRun "${call} --help" for help.`);
  }
  return program;
}

function commandFiles(): URL[] {
  const folder = new URL('./commands/', import.meta.url);
  const files = readdirSync(folder).filter((file) => /^[a-z-]+\.js$/.test(file));
  return files.sort().map((file) => new URL(file, folder));
}

/** The file of the command that is called, so that no other is read; all of them where that is not certain. */
function neededFiles(argv: readonly string[]): URL[] {
  const files = commandFiles();
  const called = `/${argv.find((word) => !word.startsWith('-')) ?? ''}.js`;
  const found = files.filter(({ pathname }) => pathname.endsWith(called));
  return found.length === 1 ? found : files;
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
    if (json) await output.failure(error.command, error.error, error.data);
    else output.note(`${error.label}: ${error.message}`);
    return error.exitCode;
  }
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0; // Help was shown.
    const message = error.message.replace(/^error: /, '');
    if (json) await output.failure(null, { type: 'CommandError', message });
    return USAGE_EXIT_CODE;
  }
  const message = error instanceof Error ? error.message : String(error);
  if (json) await output.failure(null, { type: 'InternalError', message });
  else output.note(`Error: ${message}`);
  return 1;
}

/** Words after `--` are no options. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end < 0 ? argv.length : end).includes('--json');
}
