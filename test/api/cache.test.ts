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
