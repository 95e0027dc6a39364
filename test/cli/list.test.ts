import { mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { decimalBytes, age } from '../../lib/format.js';
import { renderTable } from '../../lib/cli/table.js';
import { CHAT_MODEL, COMMIT, FixtureCache, writeFiles } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let cache: FixtureCache;

beforeEach(() => {
  cache = new FixtureCache();
});
afterEach(removeTemporaryFolders);

async function names(...args: string[]): Promise<string[]> {
  const { code, data } = await cache.json(['list', ...args]);
  expect(code).toBe(0);
  const { models, count } = data as { models: { name: string }[]; count: number };
  expect(count).toBe(models.length);
  return models.map(({ name }) => name);
}

/** Lines of the table, cells without their padding. */
async function table(args: readonly string[], cwd?: string): Promise<string[][]> {
  const ended = await cache.run(['list', ...args], cwd === undefined ? {} : { cwd });
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  const lines = ended.stdout.slice(0, -1).split('\n');
  expect(
    new Set(
      ended.stdout
        .slice(0, -1)
        .split('\n')
        .map((line) => line.length),
    ).size,
  ).toBe(1);
  return [lines[0]!, ...lines.slice(2)].map((line) => line.split(' | ').map((cell) => cell.trim()));
}

describe('which models are listed', () => {
  it('none where there is no cache', async () => {
    expect(await names()).toEqual([]);
    expect(await table([])).toEqual([['Name', 'Hash', 'Size', 'Modified', 'Src', 'Type']]);
  });

  it('all, sorted, or those with a part in their name, in any case', async () => {
    for (const id of ['org/Llama-b', 'bge', 'org/Llama-a']) cache.add(id, CHAT_MODEL);
    expect(await names()).toEqual(['bge', 'org/Llama-a', 'org/Llama-b']);
    expect(await names('LLAMA')).toEqual(['org/Llama-a', 'org/Llama-b']);
    expect(await names('')).toHaveLength(3);
    expect(await names('none')).toEqual([]);
  });

  it('broken names as they are, and never the sentinel of test suites', async () => {
    mkdirSync(path.join(cache.hub, 'models--org--model---x'), { recursive: true });
    mkdirSync(path.join(cache.hub, 'models--'));
    mkdirSync(path.join(cache.hub, 'models--TEST-CACHE-SENTINEL--x'));
    mkdirSync(path.join(cache.hub, 'datasets--org--set'));
    expect(await names()).toEqual(['', 'org/model/-x']);
  });

  it('all others where one is broken beyond reading', async () => {
    cache.add('org/good', CHAT_MODEL);
    const snapshot = cache.add('org/loop', { ...CHAT_MODEL });
    rmSync(path.join(snapshot, 'config.json'));
    symlinkSync('config.json', path.join(snapshot, 'config.json'));
    mkdirSync(cache.repository('org/self'));
    symlinkSync('snapshots', path.join(cache.repository('org/self'), 'snapshots'));
    symlinkSync('nowhere', cache.repository('org/gone'));
    writeFileSync(cache.repository('org/file'), 'x');
    const { data } = await cache.json(['list']);
    const models = (data as { models: { name: string; reason: string | null }[] }).models;
    expect(models.map(({ name, reason }) => [name, reason])).toEqual([
      ['org/file', 'No snapshots directory found'],
      ['org/gone', 'No snapshots directory found'],
      ['org/good', null],
      ['org/loop', 'config.json missing'],
      ['org/self', 'No snapshots directory found'],
    ]);
    expect((await cache.json(['health'])).data!.summary).toMatchObject({ total: 5 });
    expect((await cache.json(['health', '--deep'])).data!.summary).toMatchObject({ total: 5 });
    for (const name of ['org/file', 'org/gone', 'org/loop', 'org/self']) {
      expect((await cache.json(['rm', name])).data).toMatchObject({ action: 'deleted' });
    }
    expect(await names()).toEqual(['org/good']);
  });

  it('none where the cache may not be read, which is an error', async () => {
    // A loop of links is a folder that not even the superuser can read.
    symlinkSync('hub', cache.hub);
    for (const command of [['list'], ['health'], ['show', 'x'], ['rm', 'x']]) {
      const { code, error } = await cache.json(command);
      expect(code).toBe(1);
      expect(error!.type).toMatch(/^(permission_denied|cache_not_found)$/);
    }
  });

  it('every one in JSON, whatever the table would leave out', async () => {
    cache.add('org/broken', {});
    expect(await names('--all', '--health')).toEqual(['org/broken']);
    expect(await names()).toEqual(['org/broken']);
  });

  it('those of HF_HUB_CACHE before HF_HOME', async () => {
    cache.add('org/home', CHAT_MODEL);
    const other = new FixtureCache();
    other.add('org/other', CHAT_MODEL);
    cache.env.HF_HUB_CACHE = other.hub;
    expect(await names()).toEqual(['org/other']);
  });

  it('those of the home folder where HF_HOME is empty', async () => {
    const user = new FixtureCache();
    const hub = path.join(user.home, '.cache', 'huggingface', 'hub');
    writeFiles(path.join(hub, 'models--org--mine', 'snapshots', COMMIT), CHAT_MODEL);
    cache.env = { ...cache.env, HF_HOME: '', HOME: user.home, XDG_CACHE_HOME: '' };
    expect(await names()).toEqual(['org/mine']);
  });
});

describe('workspaces', () => {
  it('of the workspace home are listed by the name of their folder, without any cache', async () => {
    const home = cache.workspaces(['gemma-x', 'llama-y']);
    mkdirSync(path.join(home, 'no-model'));
    const { data } = await cache.json(['list']);
    expect(data).toMatchObject({
      count: 2,
      models: [
        { name: path.join(home, 'gemma-x'), display_name: 'gemma-x', cached: false, hash: null },
        { name: path.join(home, 'llama-y'), display_name: 'llama-y', cached: false },
      ],
    });
    expect(await names('GEM')).toEqual([path.join(home, 'gemma-x')]);
    cache.env.MLXK_WORKSPACE_HOME = '';
    expect(await names()).toEqual([]);
  });

  it('come before models of the cache', async () => {
    cache.add('org/model', CHAT_MODEL);
    const home = cache.workspaces(['zeta']);
    expect(await names()).toEqual([path.join(home, 'zeta'), 'org/model']);
  });

  it.each([
    ['./gem', ['gemma-a', 'gemma-b']],
    ['.', ['gemma-a', 'gemma-b', 'llama']],
    ['./', ['gemma-a', 'gemma-b', 'llama']],
    ['./llama', ['llama']],
    ['./none', []],
    ['../workspaces/gemma-b', ['gemma-b']],
  ])('are found by the path %s', async (pattern, shown) => {
    cache.add('org/gemma', CHAT_MODEL);
    const home = cache.workspaces(['gemma-b', 'gemma-a', 'llama']);
    mkdirSync(path.join(home, 'gemma-none'));
    cache.env.MLXK_WORKSPACE_HOME = '';
    const { data, code } = await cache.json(['list', pattern], { cwd: home });
    expect(code).toBe(0);
    const models = (data as { models: { display_name: string }[] }).models;
    expect(models.map((model) => model.display_name)).toEqual(shown);
  });

  it('are shown by their whole path for an absolute pattern', async () => {
    const home = cache.workspaces(['gemma']);
    for (const pattern of [home, path.join(home, 'gem'), path.join(home, 'gemma')]) {
      const { data } = await cache.json(['list', pattern]);
      expect(data).toMatchObject({ models: [{ display_name: path.join(home, 'gemma') }] });
    }
  });
});

describe('the table', () => {
  it('shows what is whole and runs, unless asked for all', async () => {
    cache.add('mlx-community/good-4bit', CHAT_MODEL);
    cache.add('org/gguf', { 'config.json': { model_type: 'llama' }, 'm.gguf': 'x' });
    cache.add('org/broken', {});
    expect((await table([])).slice(1)).toEqual([
      ['good-4bit', 'aaaaaaa', expect.stringMatching(/B$/), 'just now', 'cache', 'chat'],
    ]);
    const all = await table(['--all']);
    expect(all[0]).toEqual('Name Hash Size Modified Src Clean Framework Type'.split(' '));
    expect(all.slice(1).map((row) => [row[0], row[6]])).toEqual([
      ['good-4bit', 'MLX'],
      ['org/broken', 'Unknown'],
      ['org/gguf', 'GGUF'],
    ]);
    expect((await table(['--verbose']))[1]![0]).toBe('mlx-community/good-4bit');
  });

  it('shows health', async () => {
    cache.add('org/good', { ...CHAT_MODEL });
    cache.add('org/gguf', { 'config.json': { model_type: 'llama' }, 'm.gguf': 'x' });
    cache.add('org/broken', {});
    const compact = await table(['--all', '--health']);
    expect(compact[0]!.at(-1)).toBe('Health');
    expect(compact.slice(1).map((row) => row.at(-1))).toEqual(['unhealthy', 'healthy*', 'healthy']);
    const verbose = await table(['--all', '--health', '--verbose']);
    expect(verbose[0]!.slice(-3)).toEqual(['Integrity', 'Runtime', 'Reason']);
    expect(verbose.slice(1).map((row) => row.slice(-3))).toEqual([
      ['unhealthy', '-', 'config.json missing'],
      ['healthy', 'no', 'Incompatible framework:'],
      ['', '', 'GGUF'],
      ['healthy', 'yes', ''],
    ]);
  });

  it('shows what a model takes besides text, and the state of workspaces', async () => {
    cache.add('org/see', { 'config.json': { model_type: 'llava' }, 'm.safetensors': 'x' });
    cache.workspaces(['mine']);
    const rows = await table(['--all']);
    expect(rows[1]!.slice(4)).toEqual(['ws?', '—', 'MLX', 'chat']);
    expect(rows[2]!.at(-1)).toBe('chat+vision');
  });

  it('escapes names that would move the cursor or forge a row', async () => {
    mkdirSync(path.join(cache.hub, 'models--evil\u001b[2J--x\ny'), { recursive: true });
    const { stdout } = await cache.run(['list', '--all']);
    expect(stdout).toContain('evil\\u001b[2J/x\\u000ay');
    expect(stdout.trimEnd().split('\n')).toHaveLength(3);
    expect(await names()).toEqual(['evil\u001b[2J/x\ny']);
    mkdirSync(path.join(cache.hub, 'models--csi\u009b2J\u202e'));
    expect((await cache.run(['list', '--json'])).stdout).toContain('"csi\\u009b2J\\u202e"');
    expect(await names('csi')).toEqual(['csi\u009b2J\u202e']);
  });

  it('is cut off quietly by a reader that has enough', async () => {
    for (let i = 0; i < 30; i++) cache.add(`org/model-${i}`, CHAT_MODEL);
    const { env } = cache;
    const { run, program } = await import('../helpers/child.js');
    const command = `"${process.execPath}" "${program}" list --json | head -c 1`;
    expect(await run('sh', ['-c', command], { env })).toMatchObject({
      code: 0,
      stdout: '{',
      stderr: '',
    });
  });

  it('shows times by their distance', async () => {
    const snapshot = cache.add('org/model', CHAT_MODEL);
    const then = Date.now() / 1000 - 3 * 86_400;
    utimesSync(snapshot, then, then);
    expect((await table([]))[1]![3]).toBe('3d ago');
  });
});

describe('cells', () => {
  it.each([
    [0, '0B'],
    [999, '999B'],
    [1000, '1.0KB'],
    [999_949, '999.9KB'],
    [999_950, '1.0MB'],
    [4_613_734_656, '4.6GB'],
    [2e15, '2.0PB'],
  ])('of %d bytes', (bytes, text) => {
    expect(decimalBytes(bytes)).toBe(text);
  });

  const MINUTE = 60;
  const HOUR = 3600;
  const DAY = 86_400;
  it.each([
    [-5, 'just now'],
    [30, 'just now'],
    [60, '1m ago'],
    [10 * MINUTE, '10m ago'],
    [50 * MINUTE, '1h ago'],
    [2.6 * HOUR, '3h ago'],
    [25 * HOUR, '1d ago'],
    [3 * DAY, '3d ago'],
    [60 * DAY, '2023-09-15'],
  ])('of %d seconds ago', (seconds, text) => {
    expect(age(1_700_000_000 - seconds, 1_700_000_000)).toBe(text);
  });

  it('wrap between words, and inside words that are too long', () => {
    const reason = `${'word '.repeat(8)}${'x'.repeat(60)}`;
    const lines = renderTable([{ title: 'A' }, { title: 'Reason', maxWidth: 26 }], [['a', reason]])
      .trimEnd()
      .split('\n');
    expect(lines.slice(2).map((line) => line.split(' | ')[0]!.trim())).toEqual([
      'a',
      '',
      '',
      '',
      '',
    ]);
    expect(Math.max(...lines.map((line) => line.length))).toBe('A | '.length + 26);
    expect(lines.slice(2).map((line) => line.split('|')[1]!.trim())).toEqual([
      'word word word word word',
      'word word word',
      'x'.repeat(26),
      'x'.repeat(26),
      'x'.repeat(8),
    ]);
  });

  it('end with padding, and an empty table has its rule', () => {
    expect(renderTable([{ title: 'Name' }, { title: 'X' }], [['a', 'long']])).toBe(
      'Name | X   \n-----+-----\na    | long\n',
    );
    expect(renderTable([{ title: 'Name' }], [])).toBe('Name\n----\n');
  });
});

it('a folder where the cache should be but is a file counts as none', async () => {
  writeFileSync(cache.hub, 'x');
  expect(await names()).toEqual([]);
});
