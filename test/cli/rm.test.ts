import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { remove } from '../../lib/cache/remove.js';
import { CHAT_MODEL, COMMIT, FixtureCache } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const OTHER = 'b'.repeat(40);
let cache: FixtureCache;

beforeEach(() => {
  cache = new FixtureCache();
  mkdirSync(cache.hub);
});
afterEach(removeTemporaryFolders);

const isThere = (id: string): boolean => existsSync(cache.repository(id));
const locksOf = (id: string): string =>
  path.join(cache.hub, '.locks', path.basename(cache.repository(id)));

/** The error and data of a removal that is refused. */
async function refused(...args: string[]): Promise<Record<string, unknown>> {
  const { code, error, data } = await cache.json(['rm', ...args]);
  expect(code).toBe(1);
  return { ...error, data };
}

describe('a whole model', () => {
  it('is deleted by its name, with its locks', async () => {
    cache.add('org/model', CHAT_MODEL);
    cache.add('org/model-b', CHAT_MODEL);
    cache.addLock('org/model', 'a');
    cache.addLock('org/model', 'b');
    const { code, data } = await cache.json(['rm', 'org/model']);
    expect(code).toBe(0);
    expect(data).toMatchObject({
      model: 'org/model',
      action: 'deleted',
      requires_confirmation: false,
      matches: [],
      lock_files_cleaned: 2,
    });
    expect(data!.freed_bytes).toBeGreaterThan(0);
    expect([isThere('org/model'), existsSync(locksOf('org/model'))]).toEqual([false, false]);
    expect(isThere('org/model-b')).toBe(true);
  });

  it('that is gone is not found', async () => {
    cache.add('org/model', CHAT_MODEL);
    await cache.json(['rm', 'org/model']);
    expect((await refused('org/model')).type).toBe('model_not_found');
  });

  it('is deleted by its short name under the usual owner', async () => {
    cache.add('mlx-community/model', CHAT_MODEL);
    expect((await cache.json(['rm', 'model'])).data).toMatchObject({ action: 'deleted' });
  });

  it('is deleted by a part of its name only with --force, without a question', async () => {
    cache.add('org/model-4bit', CHAT_MODEL);
    const asked = await cache.json(['rm', 'model']);
    expect(asked).toMatchObject({
      code: 0,
      data: {
        model: 'org/model-4bit',
        action: 'requires_confirmation',
        requires_confirmation: true,
      },
    });
    expect(isThere('org/model-4bit')).toBe(true);
    const forced = await cache.run(['rm', 'model', '-f']);
    expect(forced).toMatchObject({ code: 0, stderr: '' });
    expect(forced.stdout).toMatch(
      /^rm: org\/model-4bit — deleted: Deleted org\/model-4bit, all revisions; freed \d+B\n$/,
    );
    expect(isThere('org/model-4bit')).toBe(false);
  });

  it('with a broken name or without any file is deleted', async () => {
    mkdirSync(path.join(cache.hub, 'models--org--model---x'));
    expect((await cache.json(['rm', 'org/model/-x'])).data).toMatchObject({
      action: 'deleted',
      freed_bytes: 0,
    });
    expect(readdirSync(cache.hub)).toEqual([]);
  });
});

it('several at once delete it together', async () => {
  const files = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`${i}/file`, `${i}`]));
  cache.add('org/model', files);
  const ended = await Promise.all(
    Array.from({ length: 4 }, () => remove('org/model', { env: cache.env })),
  );
  expect(ended.map(({ action }) => action)).toEqual(Array(4).fill('deleted'));
  expect(isThere('org/model')).toBe(false);
});

describe('one revision', () => {
  it('is deleted with the blobs and refs that nothing else needs', async () => {
    cache.add(
      'org/model',
      { 'config.json': 'shared', 'old.bin': 'only old' },
      { refs: { v1: COMMIT } },
    );
    cache.add(
      'org/model',
      { 'config.json': 'shared', 'new.bin': 'only new!' },
      {
        commit: OTHER,
        refs: { main: OTHER },
      },
    );
    const { data } = await cache.json(['rm', 'org/model@aaaa']);
    expect(data).toMatchObject({
      action: 'deleted',
      commit_hash: COMMIT,
      freed_bytes: 'only old'.length + COMMIT.length,
      message: expect.stringContaining('Deleted revision aaaaaaaa of org/model') as string,
    });
    const repository = cache.repository('org/model');
    expect(readdirSync(path.join(repository, 'snapshots'))).toEqual([OTHER]);
    expect(readdirSync(path.join(repository, 'refs'))).toEqual(['main']);
    expect(readdirSync(path.join(repository, 'blobs'))).toHaveLength(2);
    expect(statSync(path.join(repository, 'snapshots', OTHER, 'config.json')).size).toBe(6);
  });

  it('may be named by a branch', async () => {
    cache.add('org/model', CHAT_MODEL, { refs: { v1: COMMIT } });
    cache.add('org/model', CHAT_MODEL, { commit: OTHER });
    expect((await cache.json(['rm', 'org/model@v1'])).data).toMatchObject({ commit_hash: COMMIT });
    expect(readdirSync(path.join(cache.repository('org/model'), 'blobs'))).toHaveLength(4);
  });

  it('that is the last one takes the model with it', async () => {
    cache.add('org/model', CHAT_MODEL);
    const { data } = await cache.json(['rm', 'org/model@aaa']);
    expect(data).toMatchObject({ action: 'deleted', commit_hash: COMMIT });
    expect(isThere('org/model')).toBe(false);
  });

  it('that is not there is refused, with those that are', async () => {
    cache.add('org/model', CHAT_MODEL);
    expect(await refused('org/model@ccc')).toMatchObject({
      type: 'hash_not_found',
      available_hashes: ['aaaaaaaa'],
    });
    mkdirSync(path.join(cache.repository('org/empty'), 'refs'), { recursive: true });
    expect((await refused('org/empty@ccc')).type).toBe('snapshots_not_found');
    expect(isThere('org/model')).toBe(true);
  });

  it.each(['..', '../..', '.', '../../models--org--other'])(
    'cannot be named %s',
    async (revision) => {
      cache.add('org/model', CHAT_MODEL);
      cache.add('org/other', CHAT_MODEL);
      await expect(remove(`org/model@${revision}`, { env: cache.env })).rejects.toMatchObject({
        code: 'hash_not_found',
      });
      expect([isThere('org/model'), isThere('org/other')]).toEqual([true, true]);
    },
  );
});

describe('refused', () => {
  it('where there is no cache', async () => {
    cache.env.HF_HOME = path.join(cache.home, 'none');
    expect((await refused('org/model')).type).toBe('cache_not_found');
  });

  it('are names that fit none, or several', async () => {
    for (const id of ['org/one-a', 'org/one-b']) cache.add(id, CHAT_MODEL);
    expect(await refused('org/none')).toMatchObject({
      type: 'model_not_found',
      data: { model: 'org/none', action: 'unknown' },
    });
    expect((await refused('')).type).toBe('model_not_found');
    expect(await refused('one', '--force')).toMatchObject({
      type: 'ambiguous_match',
      matches: ['org/one-a', 'org/one-b'],
      data: { action: 'ambiguous', matches: ['org/one-a', 'org/one-b'] },
    });
    expect([isThere('org/one-a'), isThere('org/one-b')]).toEqual([true, true]);
  });

  it('are workspaces, even without a cache', async () => {
    const home = cache.workspaces(['my model']);
    const folder = path.join(home, 'my model');
    cache.env.HF_HOME = path.join(cache.home, 'none');
    const refusal = await refused(folder);
    expect(refusal.type).toBe('workspace_model');
    expect(refusal.message).toContain(`rm -rf '${folder}'`);
    expect(existsSync(path.join(folder, 'config.json'))).toBe(true);
    cache.env.HF_HOME = cache.home;
    expect((await refused('my model')).type).toBe('workspace_model');
  });

  it('is a model whose lock somebody holds', async () => {
    cache.add('org/model', CHAT_MODEL);
    const lock = cache.addLock('org/model');
    const holder = await holdLock(lock);
    try {
      expect(await refused('org/model')).toMatchObject({
        type: 'locks_present',
        data: { locks_detected: true, lock_files: [lock] },
      });
      expect(isThere('org/model')).toBe(true);
      expect((await cache.json(['rm', 'org/model', '--force'])).data).toMatchObject({
        action: 'deleted',
        lock_files_cleaned: 1,
      });
    } finally {
      holder.kill();
      await once(holder, 'close');
    }
  });

  it('is no model that is whole, however new its lock files are', async () => {
    cache.add('org/model', CHAT_MODEL);
    cache.addLock('org/model', 'a', Date.now() / 1000);
    expect((await cache.json(['rm', 'org/model'])).data).toMatchObject({ lock_files_cleaned: 1 });
  });

  it('is a model that is not whole and had a lock a moment ago', async () => {
    cache.add('org/model', {});
    cache.addLock('org/model', 'a', Date.now() / 1000);
    expect((await refused('org/model')).type).toBe('locks_present');
    cache.addLock('org/model', 'a');
    expect((await cache.json(['rm', 'org/model'])).code).toBe(0);
  });

  it('is what the system does not allow', async () => {
    cache.add('org/model', CHAT_MODEL);
    const snapshot = path.join(cache.repository('org/model'), 'snapshots', COMMIT);
    chmodSync(snapshot, 0o555);
    // The superuser may do anything, so it becomes nobody for a while.
    const nobody = 65_534;
    const isRoot = process.getuid!() === 0;
    const { hub } = cache;
    const attempt = async (): Promise<unknown> =>
      await remove('org/model', { env: { HF_HUB_CACHE: hub } }).catch((error: unknown) => error);
    if (isRoot) {
      chmodSync(cache.home, 0o755);
      process.seteuid!(nobody);
    }
    try {
      expect(await attempt()).toMatchObject({ code: 'permission_denied' });
    } finally {
      if (isRoot) process.seteuid!(0);
      chmodSync(snapshot, 0o755);
    }
    expect(existsSync(path.join(snapshot, 'config.json'))).toBe(true);
  });

  it('is everything outside a test cache, when a test suite says so', async () => {
    cache.add('org/model', CHAT_MODEL);
    cache.env.MLXK2_STRICT_TEST_DELETE = '1';
    expect((await refused('org/model')).type).toBe('permission_denied');
    mkdirSync(path.join(cache.hub, 'models--TEST-CACHE-SENTINEL--x'));
    expect((await cache.json(['rm', 'org/model'])).code).toBe(0);
  });
});

/** A process that holds a lock as Python's filelock does. */
async function holdLock(file: string): Promise<ReturnType<typeof spawn>> {
  const script =
    'import fcntl, sys, time\n' +
    'f = open(sys.argv[1], "r+")\n' +
    'fcntl.flock(f, fcntl.LOCK_EX)\n' +
    'print("held", flush=True)\n' +
    'time.sleep(60)\n';
  const holder = spawn('python3', ['-c', script, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  return holder;
}
