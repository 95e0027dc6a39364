/**
 * `mlxk show`: everything about one model.
 */

import type { Command } from 'commander';

import { type CliContext, operation } from '../command.js';

interface ShowFlags {
  readonly files?: boolean;
  readonly config?: boolean;
  readonly recalcHash?: boolean;
}

const EXAMPLES = `
Examples:
  mlxk show org/model           what it is and whether it runs
  mlxk show model --files       its files
  mlxk show model@1a2b3c4       one revision
  mlxk show builtin --config    its config.json
`;

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('show')
    .summary('show one model')
    .description('Shows what a model is, whether it is whole, and whether it runs here.')
    .argument('<model>', 'hub id, a unique part of one, id@revision, a folder, or "builtin"')
    .option('--files', 'list its files')
    .option('--config', 'print its config.json')
    .option('--recalc-hash', 'pin the content hash of a workspace anew')
    .addHelpText('after', EXAMPLES)
    .action((spec: string, flags: ShowFlags) =>
      operation('show', { fallback: 'show_operation_failed' }, async () => {
        const { show } = await import('../../cache/show.js');
        const { shownModel, shownText } = await import('../shown-model.js');
        const shown = await show(spec, {
          files: flags.files,
          config: flags.config,
          recalcHash: flags.recalcHash,
        });
        if (json) await output.success('show', shownModel(shown));
        else await output.print(shownText(shown));
      }),
    );
}
