import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { checkHealth } from '../../lib/cache/check.js';
import { CHAT_MODEL, COMMIT, FixtureCache, writeFiles } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { ownGoldens } from '../models/golden-cases.js';

let cache: FixtureCache;

beforeEach(() => {
  cache = new FixtureCache();
});
afterEach(removeTemporaryFolders);

interface Report {
  readonly healthy: Record<string, unknown>[];
  readonly unhealthy: Record<string, unknown>[];
  readonly summary: { total: number; healthy_count: number; unhealthy_count: number };
}

async function report(...args: string[]): Promise<Report> {
  const { code, data } = await cache.json(['health', ...args]);
  expect(code).toBe(0);
  return data as unknown as Report;
}

describe('health of all models', () => {
  it('is empty without a cache', async () => {
    expect((await report()).summary).toEqual({ total: 0, healthy_count: 0, unhealthy_count: 0 });
  });

  it('lists the healthy and the others, and is no failure', async () => {
    cache.add('org/good', CHAT_MODEL);
    cache.add('org/bad', {});
    mkdirSync(path.join(cache.repository('org/started'), 'blobs'), { recursive: true });
    mkdirSync(path.join(cache.repository('org/without'), 'snapshots'), { recursive: true });
    expect(await report()).toEqual({
      healthy: [{ name: 'org/good', status: 'healthy', reason: 'Model is healthy' }],
      unhealthy: [
        { name: 'org/bad', status: 'unhealthy', reason: 'config.json missing' },
        { name: 'org/started', status: 'unhealthy', reason: 'No snapshots directory found' },
        { name: 'org/without', status: 'unhealthy', reason: 'No snapshots found' },
      ],
      summary: { total: 4, healthy_count: 1, unhealthy_count: 3 },
    });
    expect(await cache.run(['health'])).toEqual({
      code: 0,
      signal: null,
      stderr: '',
      stdout:
        'Summary: total 4, healthy 1, unhealthy 3\n' +
        'healthy   org/good — Model is healthy\n' +
        'unhealthy org/bad — config.json missing\n' +
        'unhealthy org/started — No snapshots directory found\n' +
        'unhealthy org/without — No snapshots found\n',
    });
  });

  it('has the workspaces first, in place of models of their names', async () => {
    cache.workspaces(['one', 'two']);
    cache.add('org/one', {});
    cache.add('org/three', CHAT_MODEL);
    const { healthy, unhealthy } = await report();
    expect(healthy.map(({ name }) => name)).toEqual(['one', 'two', 'org/three']);
    expect(unhealthy).toEqual([]);
  });
});

describe('health of one model', () => {
  it('has no summary line', async () => {
    cache.add('org/good', CHAT_MODEL);
    const { stdout } = await cache.run(['health', 'good']);
    expect(stdout).toBe('healthy   org/good — Model is healthy\n');
  });

  it('that is unknown is an empty report', async () => {
    expect((await report('unknown')).summary.total).toBe(0);
    expect((await report('./nowhere')).summary.total).toBe(0);
  });

  it('that is not the only one is refused', async () => {
    for (const id of ['org/a', 'org/b']) cache.add(id, CHAT_MODEL);
    const { code, error } = await cache.json(['health', 'org']);
    expect(code).toBe(1);
    expect(error).toMatchObject({ type: 'ambiguous_match', matches: ['org/a', 'org/b'] });
  });

  it('of a path says whether the folder is managed', async () => {
    const home = cache.workspaces(['mine']);
    const folder = path.join(home, 'mine');
    expect((await report(folder)).healthy).toEqual([
      { name: folder, status: 'healthy', reason: 'Model is healthy', managed: false },
    ]);
    writeFiles(folder, { '.mlxk_workspace.json': { managed: true } });
    expect((await report(folder)).healthy[0]).toMatchObject({ managed: true });
    writeFiles(path.join(home, 'none'), { x: 'x' });
    expect((await report(path.join(home, 'none'))).unhealthy[0]).toMatchObject({
      reason: 'No config.json found in workspace',
    });
  });

  it('is that of the revision asked for', async () => {
    cache.add('org/model', {}, { commit: 'b'.repeat(40), modified: 1000 });
    cache.add('org/model', CHAT_MODEL, { modified: 2000 });
    expect((await report('org/model@bbb')).unhealthy).toHaveLength(1);
    expect((await report('org/model')).healthy).toHaveLength(1);
  });
});

describe('--deep', () => {
  it('compares the content of every file with its hash', async () => {
    cache.add('org/model', CHAT_MODEL);
    expect((await report('model', '--deep')).healthy[0]).toMatchObject({ verified_files: 4 });
    const weights = path.join(
      cache.repository('org/model'),
      'snapshots',
      COMMIT,
      'model.safetensors',
    );
    writeFileSync(realpathSync(weights), 'weightZ');
    expect((await report('model')).healthy).toHaveLength(1);
    expect((await report('model', '--deep')).unhealthy).toEqual([
      {
        name: 'org/model',
        status: 'unhealthy',
        reason: 'Checksum mismatch: model.safetensors',
        verified_files: 4,
      },
    ]);
    expect((await cache.run(['health', '--deep'])).stdout).toContain(
      'unhealthy org/model — Checksum mismatch: model.safetensors (4 files compared)\n',
    );
  });

  it('knows the hashes of git for small files', async () => {
    const content = '{"model_type":"llama"}';
    const sha1 = createHash('sha1').update(`blob ${content.length}\0${content}`).digest('hex');
    cache.add('org/model', CHAT_MODEL);
    const repository = cache.repository('org/model');
    const snapshot = path.join(repository, 'snapshots', COMMIT);
    writeFiles(path.join(repository, 'blobs'), { [sha1]: content });
    const { rmSync, symlinkSync } = await import('node:fs');
    rmSync(path.join(snapshot, 'config.json'));
    symlinkSync(`../../blobs/${sha1}`, path.join(snapshot, 'config.json'));
    expect((await report('model', '--deep')).healthy).toHaveLength(1);
    writeFileSync(path.join(repository, 'blobs', sha1), content.replace('llama', 'lxama'));
    expect((await report('model', '--deep')).unhealthy[0]!.reason).toBe(
      'Checksum mismatch: config.json',
    );
  });

  it('tells of files that cannot be read', async () => {
    cache.add('org/model', CHAT_MODEL);
    const link = path.join(cache.repository('org/model'), 'snapshots', COMMIT, 'model.safetensors');
    chmodSync(realpathSync(link), 0);
    chmodSync(cache.home, 0o755);
    // The superuser may do anything, so it becomes nobody for a while.
    const isRoot = process.getuid!() === 0;
    if (isRoot) process.seteuid!(65_534);
    try {
      const { unhealthy } = await checkHealth('org/model', { deep: true, env: cache.env });
      expect(unhealthy[0]!.reason).toBe('Unreadable files: model.safetensors');
    } finally {
      if (isRoot) process.seteuid!(0);
    }
  });

  it('compares nothing where no hash is known, but proves that weights were not cut short', async () => {
    const folder = temporaryFolder();
    cpSync(path.join(ownGoldens, 'llama'), folder, { recursive: true });
    expect((await report(folder, '--deep')).healthy[0]).toMatchObject({ verified_files: 0 });
    const weights = path.join(folder, 'model.safetensors');
    truncateSync(weights, statSync(weights).size - 1);
    expect((await report(folder)).healthy).toHaveLength(1);
    const [entry] = (await report(folder, '--deep')).unhealthy;
    expect(entry!.reason).toMatch(/^Broken weights: model\.safetensors: .* may be cut short$/);
    writeFileSync(weights, 'not found');
    expect((await report(folder, '--deep')).unhealthy).toHaveLength(1);
  });
});

it('reading leaves no trace in the cache', async () => {
  cache.add('org/model', CHAT_MODEL, { refs: { main: COMMIT } });
  const listing = (): string[] =>
    readdirSync(cache.home, { recursive: true, encoding: 'utf8' }).sort();
  const before = listing();
  await report();
  await report('model', '--deep');
  await cache.json(['list', '--health']);
  await cache.json(['show', 'model', '--recalc-hash']);
  expect(listing()).toEqual(before);
});
