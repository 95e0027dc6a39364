import { spawn } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { isClean } from '../../lib/workspace/content-hash.js';
import { program } from '../helpers/child.js';
import { CHAT_MODEL, FixtureCache, writeFiles } from '../helpers/fixture-cache.js';
import { hubFile, HubServer } from '../helpers/hub-server/index.js';
import { everythingIn, modelFiles } from '../helpers/remote-model.js';
import { parseEnvelope, violations } from '../helpers/schemas.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { safetensors } from '../helpers/weights.js';

const hub = new HubServer();
let cache: FixtureCache;

beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => {
  cache = new FixtureCache();
  cache.env = { ...cache.env, HF_ENDPOINT: hub.endpoint, HF_HUB_OFFLINE: '' };
});
afterEach(() => {
  hub.reset();
  hub.repositories.clear();
  removeTemporaryFolders();
});

async function cloned(args: readonly string[]) {
  const ended = await cache.json(['clone', ...args]);
  if (ended.data !== null) expect(violations(ended.data, 'data/clone.json')).toEqual([]);
  return ended;
}

/** Names, sizes and times of everything in a folder. */
function listing(folder: string): string[] {
  return everythingIn(folder).map((name) => {
    const { size, mtimeMs } = statSync(path.join(folder, name));
    return `${name} ${size} ${mtimeMs}`;
  });
}

const fresh = (): string => path.join(temporaryFolder(), 'made');
const TEMPORARY = /^\.mlxk2_temp_[0-9a-f]{16}$/;

describe('clone', () => {
  it('makes a managed workspace, and leaves the cache alone', async () => {
    cache.add('org/model', CHAT_MODEL);
    const files = modelFiles({ shards: 2 }).map((file, index) =>
      file.path.endsWith('.safetensors')
        ? hubFile(file.path, safetensors({ [`layer.${index}`]: ['F32', [20_000]] }))
        : file,
    );
    const commit = hub.add('org/model', files).resolve('main');
    const before = listing(cache.home);
    const target = fresh();
    const { code, data } = await cloned(['org/model', target]);
    expect(code).toBe(0);
    expect(data).toEqual({
      model: 'org/model',
      clone_status: 'success',
      message: `Cloned to ${target}`,
      target_dir: target,
      health_check: true,
      health: 'healthy',
      health_reason: 'Multi-file model complete',
    });
    for (const file of files) {
      expect(readFileSync(path.join(target, file.path)).equals(file.content)).toBe(true);
      expect(statSync(path.join(target, file.path)).nlink).toBe(1);
    }
    const sentinel = JSON.parse(
      readFileSync(path.join(target, '.mlxk_workspace.json'), 'utf8'),
    ) as object;
    expect(sentinel).toMatchObject({
      managed: true,
      operation: 'clone',
      source_repo: 'org/model',
      source_revision: commit,
      content_hash: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string,
    });
    expect(await isClean(target)).toBe(true);
    expect(listing(cache.home)).toEqual(before);
    expect(readdirSync(path.dirname(target))).toEqual(['made']);
    const shown = await cache.json(['show', target]);
    expect(shown.data).toMatchObject({ model: { origin: 'org/model', clean: true } });
  });

  it('takes the revision that is asked for, by either spelling', async () => {
    const repository = hub.add('org/model', modelFiles({ seed: 'old' }));
    const old = repository.resolve('main')!;
    repository.commit(modelFiles({ seed: 'new' }));
    for (const words of [[`org/model@${old}`], ['org/model', '--branch', old]]) {
      const target = fresh();
      const [spec = '', ...flags] = words;
      const { code, data } = await cloned([spec, target, ...flags]);
      expect({ code, model: data?.['model'] }).toEqual({ code: 0, model: `org/model@${old}` });
      expect(readFileSync(path.join(target, 'README.md'), 'utf8')).toContain('# old');
      const text = readFileSync(path.join(target, '.mlxk_workspace.json'), 'utf8');
      expect(JSON.parse(text)).toMatchObject({ source_repo: 'org/model', source_revision: old });
    }
  });

  it('gives each file bytes of its own', async () => {
    hub.add('org/model', [
      hubFile('config.json', '{"model_type":"llama"}'),
      hubFile('model.safetensors', 'weights'),
      hubFile('a.txt', 'the same'),
      hubFile('b.txt', 'the same'),
    ]);
    const target = fresh();
    expect((await cloned(['org/model', target])).code).toBe(0);
    appendFileSync(path.join(target, 'a.txt'), ' no more');
    expect(readFileSync(path.join(target, 'b.txt'), 'utf8')).toBe('the same');
  });

  it('takes a broken model too, and says so', async () => {
    hub.add('org/model', [hubFile('config.json', '{"a":1}')]);
    const { code, data } = await cloned(['org/model', fresh()]);
    expect(code).toBe(0);
    expect(data).toMatchObject({ health: 'unhealthy', health_reason: 'No model weights found' });
    const unchecked = await cloned(['org/model', fresh(), '--no-health-check']);
    expect(unchecked.data).toMatchObject({ clone_status: 'success', health_check: false });
    expect(Object.keys(unchecked.data ?? {})).not.toContain('health');
    const target = fresh();
    const { stdout } = await cache.run(['clone', 'org/model', target]);
    expect(stdout).toBe(`clone: org/model → ${target} (⚠ unhealthy: No model weights found)\n`);
    const quiet = await cache.run(['clone', 'org/model', `${target}2`, '--quiet']);
    expect(quiet.stdout).toBe(`clone: org/model → ${target}2\n`);
  });

  it('takes an empty folder, and a name in the workspace home', async () => {
    hub.add('org/model', modelFiles({ shards: 1 }));
    const empty = temporaryFolder();
    expect((await cloned(['org/model', empty])).code).toBe(0);
    const home = cache.workspaces([]);
    writeFiles(home, { x: '' });
    expect((await cloned(['org/model@main'])).data).toMatchObject({
      target_dir: path.join(home, 'model'),
    });
    expect((await cloned(['org/model', 'mine'])).data).toMatchObject({
      target_dir: path.join(home, 'mine'),
    });
    const again = await cloned(['org/model']);
    expect(again).toMatchObject({ code: 1, error: { type: 'InvalidTargetError' } });
  });

  it('wants a target or a home for it', async () => {
    const { code, stderr } = await cache.run(['clone', 'org/model']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^clone: Error: .*MLXK_WORKSPACE_HOME/);
  });

  it.each([
    ['a folder that is not empty', 'full', /not empty/],
    ['a file', 'full/x', /not a directory/],
    ['a folder without parent', 'none/where', /Parent/],
    ['a name that is too long', 'x'.repeat(300), /too long/],
    ['a link to nowhere', 'nowhere', /leads nowhere/],
  ])('refuses %s before it asks the hub', async (_, name, message) => {
    const at = temporaryFolder();
    writeFiles(at, { 'full/x': 'x' });
    symlinkSync('/none/at/all', path.join(at, 'nowhere'));
    const { code, error, data } = await cloned(['org/model', path.join(at, name)]);
    expect({ code, status: data?.['clone_status'] }).toEqual({ code: 1, status: 'error' });
    expect(error).toMatchObject({
      type: 'InvalidTargetError',
      message: expect.stringMatching(message) as string,
    });
    expect(hub.requests).toEqual([]);
    expect(everythingIn(at)).toEqual(['full', 'full/x', 'nowhere']);
  });

  it.each([['org/none'], ['a//b'], ['org/model@none']])(
    'leaves nothing of %s, which is not there',
    async (spec) => {
      hub.add('org/model', modelFiles({ shards: 1 }));
      const target = fresh();
      const { code, error, data } = await cloned([spec, target]);
      expect(code).toBe(1);
      expect(error).toMatchObject({
        type: 'PullFailedError',
        message: expect.stringMatching(/^Pull operation failed: /) as string,
      });
      expect(data).toMatchObject({ clone_status: 'pull_failed', model: spec });
      expect(readdirSync(path.dirname(target))).toEqual([]);
      expect(everythingIn(cache.hub)).toEqual([]);
    },
  );

  it('deletes no folder that it did not make', async () => {
    hub.add('org/model', modelFiles({ shards: 1 }));
    const target = fresh();
    const { temporaryCacheOf } = await import('../../lib/workspace/clone.js');
    writeFiles(temporaryCacheOf('org/model', target), {
      'mine.txt': 'mine',
      '.mlxk2_download_complete': '',
    });
    const { code, error } = await cloned(['org/model', target]);
    expect({ code, type: error?.type }).toEqual({ code: 1, type: 'InvalidTargetError' });
    expect(existsSync(path.join(temporaryCacheOf('org/model', target), 'mine.txt'))).toBe(true);
  });
});

describe('a clone that is interrupted', () => {
  /** Starts a clone of a model whose last file does not end, and waits until that file is asked for. */
  async function stalled(target: string) {
    const files = modelFiles({ shards: 2 });
    const last = files.find(({ path: name }) => name.startsWith('model-00002'))!;
    hub.add('org/model', files);
    hub.faults.add(({ file }) => file === last.path, { kind: 'stall', afterBytes: 1000 });
    const args = [program, 'clone', 'org/model', target, '--json'];
    const child = spawn(process.execPath, args, { env: { ...process.env, ...cache.env } });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    const asked = (): boolean => hub.requests.some((request) => request.file === last.path);
    while (!asked() && child.exitCode === null) await new Promise((go) => setTimeout(go, 5));
    return { child, ended, output: () => stdout, files };
  }

  it('by Ctrl-C keeps what it has and goes on from there', async () => {
    const target = fresh();
    const { child, ended, output, files } = await stalled(target);
    child.kill('SIGINT');
    expect(await ended).toBe(1);
    const parent = path.dirname(target);
    const [kept = '', ...others] = readdirSync(parent);
    expect(kept).toMatch(TEMPORARY);
    expect(others).toEqual([]);
    expect(parseEnvelope(output())).toMatchObject({
      data: { clone_status: 'cancelled' },
      error: { type: 'UserCancelledError', message: expect.stringContaining(kept) as string },
    });
    hub.reset();
    expect((await cloned(['org/model', target])).code).toBe(0);
    expect(readdirSync(parent)).toEqual(['made']);
    const total = files.reduce((sum, { size }) => sum + size, 0);
    expect(hub.fileBytesSent()).toBeLessThan(total);
  });

  it('keeps it under a name that tells model and target apart', async () => {
    const { temporaryCacheOf } = await import('../../lib/workspace/clone.js');
    const names = [
      temporaryCacheOf('org/a', '/x/y'),
      temporaryCacheOf('org/b', '/x/y'),
      temporaryCacheOf('org/a', '/x/z'),
    ].map((folder) => path.basename(folder));
    expect(new Set(names).size).toBe(3);
    for (const name of names) expect(name).toMatch(TEMPORARY);
    expect(names[0]).toBe(path.basename(temporaryCacheOf('org/a', '/x/y')));
  });
});
