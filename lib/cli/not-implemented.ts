/**
 * Commands of the contract that this version does not have: they say so, whatever stands behind them.
 */

import type { Command } from 'commander';

import { CommandFailure } from './command.js';

export function registerMissing(
  program: Command,
  command: { readonly name: string; readonly aliases?: readonly string[]; readonly what: string },
): void {
  const { name, aliases = [], what } = command;
  program
    .command(name)
    .aliases(aliases)
    .summary(`${what} (not implemented yet)`)
    .description(
      `${what[0]?.toUpperCase() ?? ''}${what.slice(1)}. Not implemented in this version.`,
    )
    .argument('[arguments...]')
    .allowUnknownOption()
    .action(() => {
      throw new CommandFailure({
        command: name,
        error: {
          type: 'not_implemented',
          message: `"mlxk ${name}" is not implemented in this version`,
        },
      });
    });
}
