/**
 * `mlxk completion`: the script that makes a shell complete commands, options and names of models.
 */

import { Argument, type Command } from 'commander';

import { type CliContext, operation } from '../command.js';
import { completionScript, type Shell, SHELLS } from '../completion-scripts.js';

const EXAMPLES = `
Examples:
  source <(mlxk completion bash)                                  in ~/.bashrc
  source <(mlxk completion zsh)                                   in ~/.zshrc, after compinit
  mlxk completion fish > ~/.config/fish/completions/mlxk.fish     once

"mlxk completion models" prints the names of the models, one a line; the scripts ask for it.
`;

export function register(program: Command, { output, json, wholeProgram }: CliContext): void {
  program
    .command('completion')
    .summary('print a completion script for a shell')
    .description('Prints the script that completes commands, options and models in a shell.')
    .addArgument(new Argument('<shell>').choices([...SHELLS, 'models']))
    .addHelpText('after', EXAMPLES)
    .action((shell: Shell | 'models') =>
      operation('completion', { fallback: 'internal_error' }, async () => {
        if (shell === 'models') {
          const models = await modelNames();
          if (json) await output.success('completion', { models });
          else await output.write(models.map((name) => `${name}\n`).join(''));
          return;
        }
        const script = completionScript(shell, await wholeProgram());
        if (json) await output.success('completion', { shell, script });
        else await output.write(script);
      }),
    );
}

/** Names that a shell can take as they are. */
async function modelNames(): Promise<string[]> {
  const { cachedModels, hubCacheFolder } = await import('../../cache/layout.js');
  const { workspaceHome, workspacesIn } = await import('../../workspace/home.js');
  const home = await workspaceHome();
  const workspaces = home === undefined ? [] : await workspacesIn(home);
  const names = [
    'builtin',
    ...workspaces.map(({ name }) => name),
    ...cachedModels(hubCacheFolder()).map(({ id }) => id),
  ];
  return names.filter((name) => /^[\w./@+-]+$/.test(name));
}
