import { spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { type Ended, program, run } from '../helpers/child.js';
import { CHAT_MODEL, FixtureCache } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

let cache: FixtureCache;
let bin: string;
let emptyFolder: string;

beforeAll(() => {
  cache = new FixtureCache();
  cache.add('org/model-one', CHAT_MODEL);
  cache.add('org/$(touch x)', CHAT_MODEL);
  cache.workspaces(['space']);
  bin = path.join(cache.home, 'bin');
  mkdirSync(bin);
  symlinkSync(program, path.join(bin, 'mlxk'));
  emptyFolder = temporaryFolder();
});
afterAll(removeTemporaryFolders);

const zshDriver = fileURLToPath(new URL('../helpers/zsh-completion.zsh', import.meta.url));

function shell(command: string, args: readonly string[]): Promise<Ended> {
  const env = { ...cache.env, PATH: `${bin}:${process.env.PATH ?? ''}`, HOME: emptyFolder };
  return run(command, args, { env, cwd: emptyFolder });
}

/** What each shell offers where a command line ends. */
const shells: Record<string, (line: string) => Promise<Ended>> = {
  bash: (line) => {
    const words = line.split(' ').map((word) => `'${word}'`);
    return shell('bash', [
      '--norc',
      '-c',
      `source <(mlxk completion bash)
       COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}
       _mlxk; printf '%s\\n' "\${COMPREPLY[@]}"`,
    ]);
  },
  zsh: (line) => shell('zsh', ['-f', zshDriver, line]),
  fish: (line) =>
    shell('fish', ['--no-config', '-c', `mlxk completion fish | source; complete -C '${line}'`]),
};

async function offered(name: string, line: string): Promise<string[]> {
  const { stdout, stderr, code } = await shells[name]!(line);
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  const lines = stdout.split('\n').filter((text) => text !== '');
  return lines.map((text) => text.split('\t', 1)[0]!).sort();
}

// bash has to be there; zsh and fish are tested on machines that have them, such as the gate's.
const present = Object.keys(shells).filter(
  (name) => name === 'bash' || spawnSync(name, ['--version']).error === undefined,
);

describe.each(present)('%s completes', (name) => {
  it('commands', async () => {
    expect(await offered(name, 'mlxk l')).toEqual(['list']);
    expect(await offered(name, 'mlxk s')).toEqual(['serve', 'server', 'show']);
    expect(await offered(name, 'mlxk --json he')).toEqual(['health']);
  });

  it('options, of the command and of the program', async () => {
    expect(await offered(name, 'mlxk show --f')).toEqual(['--files']);
    expect(await offered(name, 'mlxk list --')).toEqual([
      '--all',
      '--health',
      '--help',
      '--json',
      '--verbose',
    ]);
    expect(await offered(name, 'mlxk --')).toEqual(['--help', '--json', '--version']);
  });

  it('models, but none whose name a shell would run', async () => {
    expect(await offered(name, 'mlxk show ')).toEqual(['builtin', 'org/model-one', 'space']);
    expect(await offered(name, 'mlxk rm org/m')).toEqual(['org/model-one']);
    expect(await offered(name, 'mlxk version ')).toEqual([]);
  });

  it('shells', async () => {
    expect(await offered(name, 'mlxk completion f')).toEqual(['fish']);
  });
});

it.each(['bash', 'zsh', 'fish'])('the script for %s has every command', async (name) => {
  const { data, code } = await cache.json(['completion', name]);
  expect(code).toBe(0);
  const help = await cache.run(['--help']);
  const commands = [...help.stdout.matchAll(/^ {2}([a-z|]+) .*\S/gm)].flatMap(([, names]) =>
    names!.split('|'),
  );
  expect(commands).toEqual(expect.arrayContaining(['list', 'rm', 'server', 'version']));
  for (const command of commands.filter((word) => word !== 'help')) {
    expect(data!.script).toMatch(new RegExp(`\\b${command}\\b`));
  }
});

it.runIf(present.includes('zsh'))('zsh takes the script from a folder of fpath', async () => {
  const { stdout, stderr } = await shell('zsh', [
    '-fc',
    `mkdir functions; mlxk completion zsh > functions/_mlxk; fpath=($PWD/functions $fpath)
     autoload -U compinit; compinit -u -D; print -r -- $_comps[mlxk] $_comps[mlxk-json]
     _describe() { print -r -- "described $2" }; words=(mlxk l); CURRENT=2 PREFIX=l; _mlxk`,
  ]);
  expect({ stdout, stderr }).toEqual({ stdout: '_mlxk _mlxk\ndescribed commands\n', stderr: '' });
});

it('another shell is refused', async () => {
  expect(await cache.run(['completion', 'tcsh'])).toMatchObject({ code: 2, stdout: '' });
});
