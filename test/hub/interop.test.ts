/**
 * One cache, two programs: mlxk and the hub's own Python client.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';

import { checkHealth } from '../../lib/cache/check.js';
import { list } from '../../lib/cache/list.js';
import { acquireLock } from '../../lib/cache/lock.js';
import { pull } from '../../lib/cache/pull.js';
import { matchesAny } from '../../lib/hub/patterns.js';
import { remove } from '../../lib/cache/remove.js';
import { type Ended, mlxk, run } from '../helpers/child.js';
import { pythonEnvironment, pythonHub } from '../helpers/python-hub.js';
import {
  everythingIn,
  into,
  modelFiles,
  PIECE_BYTES,
  straysIn,
  wrongIn,
} from '../helpers/remote-model.js';
import { cache, hub } from '../helpers/served-hub.js';

let python: string;

beforeAll(async () => {
  python = await pythonHub();
}, 180_000);

const env = (): Record<string, string> =>
  pythonEnvironment(python, { endpoint: hub.endpoint, cache });

async function inPython(code: string): Promise<string> {
  const { code: exit, stdout, stderr } = await run('python3', ['-c', code], { env: env() });
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
  return stdout.trim();
}

const snapshotDownload = (more = ''): string =>
  `from huggingface_hub import snapshot_download; print(snapshot_download("org/model"${more}))`;

function inMlxk(...args: string[]): Promise<Ended> {
  return mlxk(args, { env: env() });
}

describe('what Python downloads', () => {
  const files = modelFiles();

  it('mlxk lists, finds healthy to the last byte, and removes with nothing left', async () => {
    hub.add('org/model', files);
    await inPython(snapshotDownload());
    const variables = { HF_HUB_CACHE: cache };
    expect((await list(undefined, variables)).map(({ name }) => name)).toEqual(['org/model']);
    const { healthy } = await checkHealth('org/model', { env: variables, deep: true });
    expect(healthy).toHaveLength(1);
    await remove('org/model', { env: variables, force: true });
    expect(everythingIn(cache).filter((file) => file.includes('org--model'))).toEqual([]);
  });

  it('mlxk takes over without asking for a byte', async () => {
    hub.add('org/model', files);
    const folder = await inPython(snapshotDownload());
    hub.reset();
    const result = await pull('org/model', into(cache, hub.endpoint));
    expect(result).toMatchObject({ folder, fetchedBytes: 0 });
    expect(hub.fileBytesSent()).toBe(0);
  });

  it('and breaks off, mlxk goes on with, after its death', async () => {
    const large = modelFiles({ shards: 1, shardBytes: 20 * PIECE_BYTES });
    const bytes = large.reduce((sum, file) => sum + file.size, 0);
    hub.add('org/model', large);
    hub.faults.add(({ file, host }) => host === 'cdn' && file !== undefined, {
      kind: 'stall',
      afterBytes: 10 * PIECE_BYTES + 1000,
    });
    // As a rule it writes every 10 MB only.
    const small = `from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = ${PIECE_BYTES}`;
    const child = spawn('python3', ['-c', [small, snapshotDownload()].join('\n')], {
      env: { ...process.env, ...env() },
    });
    const onDisk = (): number =>
      Math.max(0, ...straysIn(cache).map((file) => statSync(path.join(cache, file)).size));
    await expect.poll(onDisk, { timeout: 20_000 }).toBeGreaterThanOrEqual(10 * PIECE_BYTES);
    child.kill('SIGKILL');
    await once(child, 'exit');
    hub.reset();
    const { folder, fetchedBytes } = await pull('org/model', into(cache, hub.endpoint));
    expect(wrongIn(folder, large)).toEqual([]);
    expect(fetchedBytes).toBeLessThan(12 * PIECE_BYTES);
    expect(bytes).toBeGreaterThan(20 * PIECE_BYTES);
    expect(straysIn(cache)).toEqual([]);
  });
});

describe('what mlxk pulls', () => {
  const files = modelFiles();

  it('Python finds, scans without a warning, and takes over without a byte', async () => {
    const repository = hub.add('org/model', files);
    const { code } = await inMlxk('pull', 'org/model');
    expect(code).toBe(0);
    hub.reset();
    const folder = await inPython(snapshotDownload(', local_files_only=True'));
    expect(folder).toBe(
      path.join(cache, 'models--org--model', 'snapshots', repository.resolve('main')!),
    );
    const scan = JSON.parse(
      await inPython(`
import json
from huggingface_hub import scan_cache_dir
info = scan_cache_dir()
[repo] = info.repos
[revision] = repo.revisions
print(json.dumps({
  "warnings": [str(w) for w in info.warnings], "id": repo.repo_id, "bytes": repo.size_on_disk,
  "commit": revision.commit_hash, "refs": sorted(revision.refs), "files": len(revision.files),
}))`),
    ) as unknown;
    expect(scan).toEqual({
      ...{ warnings: [], id: 'org/model', commit: repository.resolve('main'), refs: ['main'] },
      ...{ bytes: files.reduce((sum, file) => sum + file.size, 0), files: files.length },
    });
    expect(await inPython(snapshotDownload())).toBe(folder);
    expect(hub.fileBytesSent()).toBe(0);
  });

  it('in part, Python completes', async () => {
    hub.add('org/model', files);
    await pull('org/model', into(cache, hub.endpoint, { include: ['*.json'] }));
    hub.reset();
    expect(wrongIn(await inPython(snapshotDownload()), files)).toEqual([]);
    expect(
      hub.requests.filter(({ file, method }) => file === 'config.json' && method === 'GET'),
    ).toEqual([]);
  });

  it('leaves the locks free for Python to delete it', async () => {
    hub.add('org/model', files);
    const { commit } = await pull('org/model', into(cache, hub.endpoint));
    await inPython(`
from huggingface_hub import scan_cache_dir
scan_cache_dir().delete_revisions(${JSON.stringify(commit)}).execute()`);
    expect(everythingIn(path.join(cache, 'models--org--model'))).toEqual([]);
  });
});

describe('both at once', () => {
  it('end whole, and fetch no large file twice', async () => {
    const files = modelFiles({ shards: 6 });
    hub.add('org/model', files);
    hub.faults.add(({ host }) => host === 'cdn', { kind: 'slow', chunkBytes: 16_384, pauseMs: 5 });
    const [folder, ended] = await Promise.all([
      inPython(snapshotDownload()),
      inMlxk('pull', 'org/model'),
    ]);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(wrongIn(folder, files)).toEqual([]);
    expect(straysIn(cache)).toEqual([]);
    for (const file of files) expect(hub.fileBytesSent(file.path)).toBe(file.size);
  });

  it('keep each other out by the lock', async () => {
    const lockFile = path.join(cache, '.locks', 'models--org--model', 'blob.lock');
    const attempt = `
from huggingface_hub.utils import WeakFileLock
from filelock import Timeout
try:
    with WeakFileLock(${JSON.stringify(lockFile)}, timeout=0.2): print("taken")
except Timeout:
    print("held")`;
    const lock = await acquireLock(lockFile, new AbortController().signal);
    expect(lock.excludes).toBe(true);
    expect(await inPython(attempt)).toBe('held');
    await lock.release();
    expect(await inPython(attempt)).toBe('taken');
  });
});

describe('patterns of files', () => {
  it('mean to mlxk what they mean to Python', async () => {
    const alphabet = fc.constantFrom(...Array.from('ab.*?[]!-/'));
    const text = fc.array(alphabet, { maxLength: 9 }).map((characters) => characters.join(''));
    const pairs = fc.sample(fc.tuple(text, text), { numRuns: 3000, seed: 1 });
    const python = JSON.parse(
      await inPython(`
import json
from fnmatch import fnmatchcase
pairs = json.loads(${JSON.stringify(JSON.stringify(pairs))})
print(json.dumps([fnmatchcase(name, pattern + "*" if pattern.endswith("/") else pattern) for name, pattern in pairs]))`),
    ) as boolean[];
    const differing = pairs.filter(
      ([name, pattern], index) => matchesAny(name, [pattern]) !== python[index],
    );
    expect(differing).toEqual([]);
    expect(python.filter(Boolean).length).toBeGreaterThan(50);
  });
});
