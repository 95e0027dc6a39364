import { existsSync } from 'node:fs';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { cache, MlxkError } from '../../lib/index.js';
import { CHAT_MODEL, FixtureCache } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let fixture: FixtureCache;

beforeEach(() => {
  fixture = new FixtureCache();
  fixture.add('org/model', CHAT_MODEL);
});
afterEach(removeTemporaryFolders);

describe('the model manager as an API', () => {
  it('lists, shows, checks and removes', async () => {
    const { env } = fixture;
    const [entry] = await cache.list('MODEL', env);
    expect(entry).toMatchObject({ name: 'org/model', runtimeCompatible: true });
    const shown = await cache.show('model', { env });
    expect(shown.model).toEqual({ ...entry, quantization: { bits: 4, group_size: 64 } });
    expect(shown.metadata).toEqual({ modelType: 'llama' });
    const { healthy } = await cache.health('model', { deep: true, env });
    expect(healthy).toEqual([
      { name: 'org/model', status: 'healthy', reason: 'Model is healthy', verifiedFiles: 4 },
    ]);
    expect(await cache.remove('org/model', { env })).toMatchObject({ action: 'deleted' });
    expect(existsSync(fixture.repository('org/model'))).toBe(false);
  });

  it('refuses with typed errors', async () => {
    const { env } = fixture;
    const error: unknown = await cache.show('none', { env }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(MlxkError);
    expect(error).toMatchObject({ code: 'model_not_found', httpStatus: 404, exitCode: 1 });
    await expect(cache.remove('none', { env })).rejects.toMatchObject({ code: 'model_not_found' });
  });

  const arguments_: [name: keyof typeof cache, args: unknown[], message: string][] = [
    ['list', [5], 'pattern must be a string, got 5'],
    ['list', ['', null], 'env must be an object, got null'],
    ['show', [], 'spec must be a string, got undefined'],
    ['show', ['x', 5], 'options must be an object, got 5'],
    ['show', ['x', { file: true }], 'unknown option "file"; did you mean "files"?'],
    ['health', [{}], 'spec must be a string, got an object'],
    ['health', ['x', { deep: 'yes' }], 'deep must be true or false, got "yes"'],
    ['remove', [], 'spec must be a string, got undefined'],
    ['remove', ['x', { force: 1 }], 'force must be true or false, got 1'],
    ['pull', [null], 'spec must be a string, got null'],
    [
      'pull',
      ['org/x', { connections: 0 }],
      'connections must be a whole number of at least 1, got 0',
    ],
    ['pull', ['org/x', { include: '*' }], 'include must be an array of strings, got "*"'],
    ['pull', ['org/x', { signal: {} }], 'signal must be an AbortSignal, got an object'],
    ['clone', [], 'spec must be a string, got undefined'],
    ['clone', ['org/x', 5], 'target must be a string, got 5'],
    ['clone', ['org/x', './x', { onProgress: 1 }], 'onProgress must be a function, got 1'],
    ['push', [], 'folder must be a string, got undefined'],
    ['push', ['./x', 5], 'repository must be a string, got 5'],
    ['push', ['./x', 'org/x', { dryrun: true }], 'unknown option "dryrun"; did you mean "dryRun"?'],
    ['convert', [5, './x', { quantize: 4 }], 'source must be a string, got 5'],
    ['convert', ['./x', 5, { quantize: 4 }], 'target must be a string, got 5'],
    ['convert', ['./x', './y', 5], 'options must be an object, got 5'],
    [
      'convert',
      ['./x', './y', { quantize: '4' }],
      'quantize must be one of 2, 3, 4, 6, 8, got "4"',
    ],
    [
      'convert',
      ['./x', './y', { quantise: 4 }],
      'unknown option "quantise"; did you mean "quantize"?',
    ],
  ];

  it.each(arguments_)('%s refuses %j by name', async (name, args, message) => {
    const operation = cache[name] as (...values: unknown[]) => Promise<unknown>;
    const error: unknown = await operation(...args).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'validation_error' });
    expect((error as Error).message).toBe(message);
    expect(error instanceof TypeError || error instanceof RangeError).toBe(true);
  });

  it('tells how far a deep check is, and ends it when asked', async () => {
    const { env } = fixture;
    const seen: number[] = [];
    await cache.health('model', {
      deep: true,
      env,
      onProgress: ({ doneBytes, totalBytes }) => seen.push(doneBytes / totalBytes),
    });
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    const aborting = new AbortController();
    const checking = cache.health('model', {
      deep: true,
      env,
      signal: aborting.signal,
      onProgress: () => aborting.abort(new Error('enough')),
    });
    await expect(checking).rejects.toThrow('enough');
  });

  it('lets others run between two models', async () => {
    for (let i = 0; i < 20; i++) fixture.add(`org/model-${i}`, CHAT_MODEL);
    let turns = 0;
    let listing = true;
    const count = (): void => {
      turns += 1;
      if (listing) setImmediate(count);
    };
    setImmediate(count);
    await cache.list('', fixture.env);
    listing = false;
    expect(turns).toBeGreaterThan(15);
  });
});
