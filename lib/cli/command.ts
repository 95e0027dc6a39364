/**
 * What a command of the CLI is to the program that runs it, and the ways a command can end other than well.
 */

import type { Command } from 'commander';

import type { Output } from './output.js';

/** Given to every command when it registers. */
export interface CliContext {
  readonly output: Output;
  /** `--json` stands somewhere on the command line: everything for a program goes to stdout. */
  readonly json: boolean;
}

/** A file under `commands/` exports one of these as `register`. */
export type RegisterCommand = (program: Command, context: CliContext) => void;

/** An operation that failed: printed as the command prints its errors. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly command: string;
  readonly error: ContractError;
  /** What stands before the message for a person. */
  readonly label: string;
  readonly exitCode: number;

  constructor(options: {
    command: string;
    error: ContractError;
    label: string;
    exitCode: number;
    cause?: unknown;
  }) {
    super(options.error.message, { cause: options.cause });
    this.command = options.command;
    this.error = options.error;
    this.label = options.label;
    this.exitCode = options.exitCode;
  }
}

/** The `error` member of a JSON envelope. */
export interface ContractError {
  readonly type: string;
  readonly message: string;
  readonly [extra: string]: unknown;
}
