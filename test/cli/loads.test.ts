/**
 * What a command loads: nothing that it does not need, so that it starts at once.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { CHAT_MODEL, FixtureCache } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const trace = new URL('../helpers/trace-loads.mjs', import.meta.url);
const root = fileURLToPath(new URL('../../', import.meta.url));

let cache: FixtureCache;

beforeAll(() => {
  cache = new FixtureCache();
  cache.add('org/model', CHAT_MODEL);
});
afterAll(removeTemporaryFolders);

let runs = 0;

/** The modules a command loads, relative to the package. */
async function loads(...args: string[]): Promise<string[]> {
  const log = path.join(cache.home, `loads-${runs++}`);
  const { code } = await cache.run(args, {
    env: { NODE_OPTIONS: `--import ${trace.href}`, TRACE_LOADS: log },
  });
  expect(code).toBe(0);
  return readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((name) => path.relative(root, name.startsWith('file:') ? fileURLToPath(name) : name));
}

const NATIVE = /\.node$/;
const HEAVY = /\.node$|huggingface|koffi|lossless|dist\/(hub|server|index|model|binding)\b/;

describe('a command loads', () => {
  it('the addon only to run a model, which proves that this test sees it', async () => {
    expect(await loads('run', 'builtin', 'hi', '--max-tokens', '1')).toEqual(
      expect.arrayContaining([expect.stringMatching(NATIVE) as string]),
    );
  });

  it.each([
    [['--version']],
    [['list']],
    [['list', '--json']],
    [['show', 'model']],
    [['health', 'model', '--deep']],
    [['rm', 'mod']],
    [['completion', 'models']],
  ])('neither native code nor a client of the hub for %j', async (args) => {
    const found = await loads(...args);
    expect(found.filter((name) => HEAVY.test(name))).toEqual([]);
  });

  it('no other command than the one that is called', async () => {
    const commands = (await loads('list')).filter((name) => name.includes('cli/commands/'));
    expect(commands).toEqual([path.join('dist', 'cli', 'commands', 'list.js')]);
  });

  it('no native code to explain all commands', async () => {
    expect((await loads('help')).filter((name) => NATIVE.test(name))).toEqual([]);
  });
});
