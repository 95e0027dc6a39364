/**
 * Completion scripts for shells, made from the commands as they are registered. Names of models are asked from the
 * program when they are needed; everything else is in the script. Pure.
 */

import type { Command } from 'commander';

/** What a script knows of one command. */
interface Completed {
  readonly names: readonly string[];
  readonly summary: string;
  readonly options: readonly { readonly flag: string; readonly description: string }[];
  /** What its first argument may be, where that is known beforehand. */
  readonly choices: readonly string[];
  /** Its first argument may be a model of this machine. */
  readonly takesModel: boolean;
  /** One of its arguments may be a file or folder. */
  readonly takesFiles: boolean;
}

export type Shell = 'bash' | 'zsh' | 'fish';
export const SHELLS: readonly Shell[] = ['bash', 'zsh', 'fish'];

/** How the arguments are called that may be a model. */
const MODEL_ARGUMENTS = new Set(['model', 'words', 'pattern', 'source']);
/** Options of the program itself. */
const PROGRAM_OPTIONS = ['--help', '--version', '--json'];
/** The names of the program whose first word is a command. */
const PROGRAMS = ['mlxk', 'mlxk2', 'mlxk-json'];
const LIST_MODELS = 'mlxk completion models 2>/dev/null';

export function completionScript(shell: Shell, program: Command): string {
  const commands = program.commands.map(completed);
  switch (shell) {
    case 'bash':
      return bash(commands);
    case 'zsh':
      return zsh(commands);
    case 'fish':
      return fish(commands);
  }
}

function completed(command: Command): Completed {
  const [argument] = command.registeredArguments;
  return {
    names: [command.name(), ...command.aliases()],
    summary: command.summary() || command.description(),
    options: [
      ...command.options.map(({ long, short, description }) => ({
        flag: long ?? short ?? '',
        description,
      })),
      { flag: '--help', description: 'explain the command' },
    ],
    choices: argument?.argChoices ?? [],
    takesModel: argument !== undefined && MODEL_ARGUMENTS.has(argument.name()),
    takesFiles: argument !== undefined && argument.argChoices === undefined,
  };
}

function flagsOf(command: Completed): string {
  return command.options.map(({ flag }) => flag).join(' ');
}

function bash(commands: readonly Completed[]): string {
  const cases = commands.map(
    (command) =>
      `    ${command.names.join('|')})\n` +
      `      flags='${flagsOf(command)}'\n` +
      (command.choices.length > 0 ? `      words='${command.choices.join(' ')}'\n` : '') +
      (command.takesModel ? `      [[ $cur == -* ]] || words=$(${LIST_MODELS})\n` : '') +
      '      ;;\n',
  );
  return `# bash completion for mlxk. Add to ~/.bashrc:  source <(mlxk completion bash)
_mlxk() {
  local cur=\${COMP_WORDS[COMP_CWORD]} called= word flags= words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ $word != -* ]]; then called=$word; break; fi
  done
  case $called in
    '')
      words='${commands.flatMap(({ names }) => names).join(' ')}'
      flags='${PROGRAM_OPTIONS.join(' ')}'
      ;;
${cases.join('')}  esac
  [[ $cur == -* ]] && words=$flags
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _mlxk ${PROGRAMS.join(' ')}
`;
}

function zsh(commands: readonly Completed[]): string {
  const described = commands.flatMap(({ names, summary }) =>
    names.map((name) => `          ${quoted(`${name}:${summary}`)}\n`),
  );
  const cases = commands.map(
    (command) =>
      `    ${command.names.join('|')})\n` +
      `      if [[ $PREFIX == -* ]]; then\n        compadd -- ${flagsOf(command)}\n      else\n` +
      (command.choices.length > 0 ? `        compadd -- ${command.choices.join(' ')}\n` : '') +
      (command.takesModel ? `        compadd -- \${(f)"$(${LIST_MODELS})"}\n` : '') +
      (command.takesFiles ? '        _files\n' : '') +
      '      fi\n      ;;\n',
  );
  return `#compdef ${PROGRAMS.join(' ')}
# zsh completion for mlxk. Add to ~/.zshrc, after compinit:  source <(mlxk completion zsh)
_mlxk() {
  local called word
  for word in \${words[2,CURRENT-1]}; do
    if [[ $word != -* ]]; then called=$word; break; fi
  done
  case $called in
    '')
      if [[ $PREFIX == -* ]]; then
        compadd -- ${PROGRAM_OPTIONS.join(' ')}
      else
        local -a commands
        commands=(
${described.join('')}        )
        _describe command commands
      fi
      ;;
${cases.join('')}  esac
}
# Sourced, it is made known; as a file of fpath it is called for the first time.
if [[ $funcstack[1] == _mlxk ]]; then
  _mlxk "$@"
else
  compdef _mlxk ${PROGRAMS.join(' ')}
fi
`;
}

function fish(commands: readonly Completed[]): string {
  const lines = commands.flatMap((command) => {
    const seen = `-n '__fish_seen_subcommand_from ${command.names.join(' ')}'`;
    return [
      ...command.names.map(
        (name) => `-n __fish_use_subcommand -f -a ${name} -d ${quoted(command.summary)}`,
      ),
      ...command.options.map(
        ({ flag, description }) =>
          `${seen} -l ${flag.replace(/^-+/, '')} -d ${quoted(description)}`,
      ),
      ...(command.takesFiles ? [] : [`${seen} -f`]),
      ...(command.choices.length > 0 ? [`${seen} -a '${command.choices.join(' ')}'`] : []),
      ...(command.takesModel ? [`${seen} -a '(${LIST_MODELS})'`] : []),
    ];
  });
  const first = PROGRAM_OPTIONS.map((flag) => `-n __fish_use_subcommand -l ${flag.slice(2)}`);
  lines.push(...first);
  const all = PROGRAMS.flatMap((name) => lines.map((line) => `complete -c ${name} ${line}\n`));
  return `# fish completion for mlxk. Save as ~/.config/fish/completions/mlxk.fish\n${all.join('')}`;
}

/** For a shell's single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
