/**
 * `mlxk list`: the models of this machine.
 */

import type { Command } from 'commander';

import { type CliContext, operation } from '../command.js';

interface ListFlags {
  readonly all?: boolean;
  readonly health?: boolean;
  readonly verbose?: boolean;
}

const EXAMPLES = `
Examples:
  mlxk list                     models that run here
  mlxk list --all --health      all models, and what is wrong with them
  mlxk list qwen                models with "qwen" in their name
  mlxk list ./models            workspaces in a folder
  mlxk list --json              every model, for a program
`;

/** Why a table is empty. */
function whyNothing(hidden: number, pattern: string | undefined): string {
  if (hidden > 0) {
    return `Models that do not run here: ${hidden}; "mlxk list --all --health --verbose" shows them and says why.`;
  }
  return pattern === undefined
    ? 'No models yet: "mlxk pull org/model" downloads one; "mlxk run" alone talks with the built-in one.'
    : `No model is called "${pattern}" or in part so.`;
}

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('list')
    .summary('list the models of this machine')
    .description('Lists the models of the Hugging Face cache and of the workspace home.')
    .argument('[pattern]', 'part of a name, or the path of workspaces')
    .option('--all', 'also models that do not run here, and more columns')
    .option('--health', 'show whether files are whole')
    .option('--verbose', 'full names and more columns; with --health what is wrong')
    .addHelpText('after', EXAMPLES)
    .action((pattern: string | undefined, flags: ListFlags) =>
      operation('list', { fallback: 'internal_error' }, async () => {
        const { list } = await import('../../cache/list.js');
        const entries = await list(pattern);
        if (json) {
          const { modelObject } = await import('../../contracts/model-object.js');
          const models = entries.map(modelObject);
          await output.success('list', { models, count: models.length });
          return;
        }
        const { modelTable, runsHere } = await import('../model-table.js');
        await output.print(modelTable(entries, flags, Date.now() / 1000));
        const hidden = flags.all ? 0 : entries.filter((entry) => !runsHere(entry)).length;
        if (hidden === entries.length) output.hint(whyNothing(hidden, pattern));
      }),
    );
}
