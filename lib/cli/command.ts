/**
 * What a command of the CLI is to the program that runs it, and the ways a command can end other than well.
 *
 * A command is a file under `commands/` of the command's name, which exports `register`. It stays light: what the
 * operation needs is imported inside the action, so that `mlxk --version` loads no hub client and no addon.
 */

import type { Command } from 'commander';

import { type ContractError, contractError, type TypeNames } from '../contracts/json-api.js';
import { MlxkError } from '../errors.js';
import type { Output } from './output.js';

/** Given to every command when it registers. */
export interface CliContext {
  readonly output: Output;
  /** `--json` stands somewhere on the command line: everything for a program goes to stdout. */
  readonly json: boolean;
  /** Name the program was called by. */
  readonly programName: string;
  /** The program with all its commands, for what has to know them; usually only the called one is there. */
  readonly wholeProgram: () => Promise<Command>;
}

/** A file under `commands/` exports one of these as `register`. */
export type RegisterCommand = (program: Command, context: CliContext) => void;

/** Data of an envelope. */
export type Data = Readonly<Record<string, unknown>>;

/** An operation that failed: printed as the command prints its errors. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly command: string;
  readonly error: ContractError;
  /** What the contract tells beside the error. */
  readonly data: Data | null;
  /** What stands before the message for a person. */
  readonly label: string;
  readonly exitCode: number;

  constructor(options: {
    command: string;
    error: ContractError;
    data?: Data | undefined;
    label?: string;
    exitCode?: number;
    cause?: unknown;
  }) {
    super(options.error.message, { cause: options.cause });
    this.command = options.command;
    this.error = options.error;
    this.data = options.data ?? null;
    this.label = options.label ?? `${options.command}: Error`;
    this.exitCode = options.exitCode ?? 1;
  }
}

export interface FailureStyle {
  /** Type of a failure that is not in the error table, such as one of the operating system. */
  readonly fallback: string;
  /** The contract's spelling of types of the error table, where this command has its own. */
  readonly names?: TypeNames;
  /** What the command's envelope holds in spite of the error. */
  readonly data?: (cause: unknown) => Data | undefined;
}

/**
 * Runs the operation of a command; whatever it throws is that command's failure.
 *
 * @example
 * .action(async (model: string) => operation('rm', { fallback: 'deletion_failed' }, async () => { … }))
 */
export async function operation(
  command: string,
  style: FailureStyle,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (cause) {
    if (cause instanceof CommandFailure) throw cause;
    throw new CommandFailure({
      command,
      error: contractError(cause, style.fallback, style.names),
      data: style.data?.(cause),
      exitCode: cause instanceof MlxkError ? cause.exitCode : 1,
      cause,
    });
  }
}
