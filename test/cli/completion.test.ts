import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { program, run } from '../helpers/child.js';
import { CHAT_MODEL, FixtureCache } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let cache: FixtureCache;
let bin: string;

beforeAll(() => {
  cache = new FixtureCache();
  cache.add('org/model-one', CHAT_MODEL);
  cache.add('org/$(touch x)', CHAT_MODEL);
  cache.workspaces(['space']);
  bin = path.join(cache.home, 'bin');
  mkdirSync(bin);
  symlinkSync(program, path.join(bin, 'mlxk'));
});
afterAll(removeTemporaryFolders);

/** What bash offers for the last word of a command line. */
async function offered(...words: string[]): Promise<string[]> {
  const script = `
    source <(mlxk completion bash)
    COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})
    COMP_CWORD=${words.length - 1}
    _mlxk
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, code } = await run('bash', ['--norc', '-c', script], {
    env: { ...cache.env, PATH: `${bin}:${process.env.PATH ?? ''}` },
  });
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return stdout.split('\n').filter((line) => line !== '');
}

describe('bash completes', () => {
  it('commands', async () => {
    expect(await offered('mlxk', 'l')).toEqual(['list']);
    expect(await offered('mlxk', 's')).toEqual(['serve', 'server', 'show']);
    expect(await offered('mlxk', '--json', 'he')).toEqual(['health']);
  });

  it('options of the command', async () => {
    expect(await offered('mlxk', 'show', '--f')).toEqual(['--files']);
    expect(await offered('mlxk', 'list', '--')).toEqual([
      '--all',
      '--health',
      '--verbose',
      '--json',
      '--help',
    ]);
  });

  it('models, but none whose name a shell would run', async () => {
    expect(await offered('mlxk', 'show', '')).toEqual(['builtin', 'space', 'org/model-one']);
    expect(await offered('mlxk', 'rm', 'org/m')).toEqual(['org/model-one']);
    expect(await offered('mlxk', 'version', '')).toEqual([]);
  });

  it('shells', async () => {
    expect(await offered('mlxk', 'completion', 'f')).toEqual(['fish']);
  });
});

it.each(['bash', 'zsh', 'fish'])('the script for %s has every command', async (shell) => {
  const { data, code } = await cache.json(['completion', shell]);
  expect(code).toBe(0);
  const help = await cache.run(['--help']);
  const commands = [...help.stdout.matchAll(/^ {2}([a-z|]+) .*\S/gm)].flatMap(([, names]) =>
    names!.split('|'),
  );
  expect(commands).toEqual(expect.arrayContaining(['list', 'rm', 'server', 'version']));
  for (const command of commands.filter((name) => name !== 'help')) {
    expect(data!.script).toMatch(new RegExp(`\\b${command}\\b`));
  }
});

it('another shell is refused', async () => {
  expect(await cache.run(['completion', 'tcsh'])).toMatchObject({ code: 2, stdout: '' });
});
