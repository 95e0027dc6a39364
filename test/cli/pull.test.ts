import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { program, run } from '../helpers/child.js';
import { hubFile, HubServer } from '../helpers/hub-server/index.js';
import { RemoteCache } from '../helpers/remote-cache.js';
import { everythingIn, modelFiles, straysIn, wrongIn } from '../helpers/remote-model.js';
import { parseEnvelope } from '../helpers/schemas.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const server = new HubServer();
let cache: RemoteCache;

beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => {
  cache = new RemoteCache(server);
});
afterEach(() => {
  server.reset();
  server.repositories.clear();
  server.tokens.clear();
  removeTemporaryFolders();
});

const files = modelFiles();
const snapshotOf = (id: string): string =>
  path.join(cache.repository(id), 'snapshots', server.repositories.get(id)!.resolve('main')!);

/** The error and data of a pull that fails. */
async function refused(...args: string[]): Promise<Record<string, unknown>> {
  const { code, error, data } = await cache.json(['pull', ...args]);
  expect(code).toBe(1);
  return { ...error, data };
}

describe('a model that is not here', () => {
  it('is downloaded', async () => {
    const commit = server.add('org/model', files).resolve('main');
    const { code, data } = await cache.json(['pull', 'org/model']);
    expect(code).toBe(0);
    expect(data).toEqual({
      model: 'org/model',
      download_status: 'success',
      message: `downloaded to ${snapshotOf('org/model')}`,
      expanded_name: null,
      commit_hash: commit,
    });
    expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
  });

  it('is downloaded for a person too, who is told where to', async () => {
    server.add('org/model', files);
    expect(await cache.run(['pull', 'org/model'])).toEqual({
      ...{ code: 0, signal: null, stderr: '' },
      stdout: `pull: org/model — downloaded to ${snapshotOf('org/model')}\n`,
    });
  });

  it('is downloaded though one of a longer name is here', async () => {
    server.add('org/model-8bit', files);
    server.add('org/model', modelFiles({ seed: 'b' }));
    await cache.json(['pull', 'org/model-8bit']);
    expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
      model: 'org/model',
      download_status: 'success',
    });
  });

  it('is downloaded at the revision that is asked for', async () => {
    const repository = server.add('org/model', files);
    const dev = repository.commit(modelFiles({ seed: 'dev' }), 'dev');
    const first = await cache.json(['pull', 'org/model@dev']);
    expect(first.data).toMatchObject({ download_status: 'success', commit_hash: dev });
    const second = await cache.json(['pull', 'org/model', '--revision', 'main']);
    expect(second.data).toMatchObject({ commit_hash: repository.resolve('main') });
    expect(
      server.requests.filter((request) => request.path.includes(`/resolve/${dev}/`)),
    ).not.toEqual([]);
  });

  it('is told to be unhealthy when it is so on the hub', async () => {
    server.add(
      'org/model',
      files.filter(({ path: name }) => !name.startsWith('model-00002')),
    );
    const { code, data } = await cache.json(['pull', 'org/model']);
    expect(code).toBe(0);
    expect(data!.message).toContain('unhealthy: Missing weight shards');
  });
});

describe('a model that is here', () => {
  beforeEach(async () => {
    server.add('org/model', files);
    await cache.json(['pull', 'org/model']);
    server.reset();
  });
  const breakIt = (): void =>
    unlinkSync(path.join(snapshotOf('org/model'), 'model-00002-of-00003.safetensors'));

  it('and healthy is left alone, without a request', async () => {
    const { code, data } = await cache.json(['pull', 'org/model']);
    expect({ code, status: data!.download_status }).toEqual({ code: 0, status: 'already_exists' });
    expect((await cache.run(['pull', 'org/model'])).stdout).toBe(
      'pull: org/model — already here and healthy\n',
    );
    expect(server.requests).toEqual([]);
  });

  it('because it comes with the package is not asked for either', async () => {
    const { code, data } = await cache.json(['pull', 'builtin']);
    expect({ code, status: data!.download_status }).toEqual({ code: 0, status: 'already_exists' });
    expect(server.requests).toEqual([]);
  });

  it('and unhealthy asks for confirmation, with exit code 0 in JSON', async () => {
    breakIt();
    const { code, data } = await cache.json(['pull', 'org/model']);
    expect({ code, status: data!.download_status }).toEqual({
      code: 0,
      status: 'requires_confirmation',
    });
    expect(data!.message).toMatch(/model-00002.*--force-resume/s);
    expect(server.requests).toEqual([]);
  });

  it('and unhealthy is an error where nobody can be asked', async () => {
    breakIt();
    const { code, stdout, stderr } = await cache.run(['pull', 'org/model']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^pull: Error: org\/model is unhealthy: .*--force-resume/);
  });

  it.each([[[]], [['--json']]])(
    'and unhealthy is completed with --force-resume %j',
    async (more) => {
      breakIt();
      const { code } = await cache.run(['pull', 'org/model', '--force-resume', ...more]);
      expect(code).toBe(0);
      expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
    },
  );

  it('and spoilt where only its hash tells is mended with --verify', async () => {
    const shard = files.find(({ path: name }) => name.startsWith('model-00002'))!;
    const blob = path.join(cache.repository('org/model'), 'blobs', shard.lfs!);
    const spoilt = Buffer.from(shard.content);
    spoilt[1000]! ^= 1;
    writeFileSync(blob, spoilt);
    expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
      download_status: 'already_exists',
    });
    const { code, stderr } = await cache.run(['pull', 'org/model', '--verify', '--json-progress']);
    expect(code).toBe(0);
    expect(stderr.split('"type":"verifying"')).toHaveLength(files.length + 1);
    expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
    expect(server.fileBytesSent()).toBe(shard.size);
    expect(straysIn(cache.hub)).toEqual([]);
  });

  it('is found by its short name, if that fits no other', async () => {
    expect((await cache.json(['pull', 'model'])).data).toMatchObject({
      model: 'org/model',
      expanded_name: 'org/model',
      download_status: 'already_exists',
    });
    server.add('org/model-b', files);
    await cache.json(['pull', 'org/model-b']);
    const error = await refused('mode');
    expect(error).toMatchObject({ type: 'ambiguous_match', data: { download_status: 'unknown' } });
    expect(error.matches).toEqual(['org/model', 'org/model-b']);
  });

  it('in part only gets the files that are asked for', async () => {
    breakIt();
    const { data } = await cache.json(['pull', 'org/model', '--include', 'model-00002*']);
    expect(data).toMatchObject({ download_status: 'success' });
    expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
  });
});

describe('a pull is refused', () => {
  it.each(['/a', 'a/', 'a//b', '', `o/${'x'.repeat(95)}`])('for the name %j', async (name) => {
    const error = await refused(name);
    expect(error).toMatchObject({ type: 'ValidationError', data: { download_status: 'error' } });
    expect(server.requests).toEqual([]);
    expect(everythingIn(cache.hub)).toEqual([]);
  });

  it.each([
    ['that is gated', 'org/gated'],
    ['that is private', 'org/private'],
    ['that is not there', 'org/none'],
    ['whose revision is not there', 'org/open@none'],
  ])('for a model %s, and leaves nothing behind', async (_, name) => {
    server.add('org/gated', files, { gated: true });
    server.add('org/private', files, { private: true });
    server.add('org/open', files);
    const error = await refused(name);
    expect(error).toMatchObject({
      type: 'access_denied',
      data: { download_status: 'access_denied' },
    });
    expect(existsSync(cache.hub)).toBe(false);
    const { code, stdout, stderr } = await cache.run(['pull', name]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^pull: Error: /);
  });

  it('offline', async () => {
    cache.env = { ...cache.env, HF_HUB_OFFLINE: '1' };
    expect(await refused('org/model')).toMatchObject({
      type: 'download_failed',
      detail: { reason: 'offline' },
    });
  });

  it('into a cache that cannot be made', async () => {
    server.add('org/model', files);
    writeFileSync(cache.hub, 'a file in its place');
    expect(await refused('org/model')).toMatchObject({
      type: 'permission_denied',
      message: expect.stringContaining(cache.hub) as string,
    });
  });

  it('for patterns that fit nothing', async () => {
    server.add('org/model', files);
    expect(await refused('org/model', '--include', '*.gguf')).toMatchObject({
      type: 'ValidationError',
    });
    expect(everythingIn(cache.hub)).toEqual([]);
  });

  it('for a hostile file name, which cannot touch the terminal', async () => {
    server.add('org/model', [
      hubFile('config.json', '{}'),
      hubFile('\x1b]0;owned\x07/../../x', 'x'),
    ]);
    const { code, stderr } = await cache.run(['pull', 'org/model']);
    expect(code).toBe(1);
    expect(stderr).toContain('\\u001b]0;owned');
    // eslint-disable-next-line no-control-regex
    expect(stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
    expect(everythingIn(cache.home)).toEqual([]);
  });
});

describe('a disk that takes no more', () => {
  /** Where a file may grow to this size only, in blocks of 1024 bytes: a write beyond it fails as on a full disk. */
  const limited = (blocks: number): ReturnType<typeof run> =>
    run(
      'bash',
      [
        '-c',
        `ulimit -f ${blocks}; exec "$0" "$@"`,
        process.execPath,
        program,
        'pull',
        'org/model',
        '--json',
      ],
      {
        env: cache.env,
      },
    );

  it.each([0, 1, 100, 300, 319])(
    'than %i KB is an error, and what is there is gone on with',
    async (blocks) => {
      server.add('org/model', files);
      const { code, stdout } = await limited(blocks);
      expect(code).toBe(1);
      expect(parseEnvelope(stdout).error).toMatchObject({
        type: 'download_failed',
        detail: { reason: 'file_too_large' },
      });
      expect((await cache.json(['health', 'org/model'])).data!.summary).toMatchObject({
        healthy_count: 0,
      });
      expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
        download_status: 'success',
      });
      expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
      expect(straysIn(cache.hub)).toEqual([]);
    },
  );
});

describe('settings of the environment', () => {
  it('HF_TOKEN, else the stored token, opens private models', async () => {
    const repository = server.add('org/model', files, { private: true });
    server.tokens.set('hf_me', 'me');
    repository.readers.add('hf_me');
    writeFileSync(path.join(cache.home, 'token'), 'hf_me\n');
    expect((await cache.json(['pull', 'org/model'])).code).toBe(0);
    cache = new RemoteCache(server);
    cache.env = { ...cache.env, HF_TOKEN: 'hf_me' };
    expect((await cache.json(['pull', 'org/model'])).code).toBe(0);
  });

  it('HF_HUB_CACHE is where the model goes', async () => {
    server.add('org/model', files);
    const elsewhere = path.join(cache.home, 'an other plåce');
    cache.env = { ...cache.env, HF_HUB_CACHE: elsewhere };
    await cache.json(['pull', 'org/model']);
    expect(everythingIn(elsewhere)).toContain('models--org--model');
  });

  it('HF_ENDPOINT has to be a web address', async () => {
    cache.env = { ...cache.env, HF_ENDPOINT: 'file:///etc' };
    expect(await refused('org/model')).toMatchObject({ type: 'ValidationError' });
  });
});

describe('a hub in trouble', () => {
  it('that answers 500 at first is asked again, with a warning', async () => {
    server.add('org/model', files);
    server.faults.add(
      ({ path: asked }) => asked.includes('/revision/'),
      { kind: 'status', status: 500 },
      1,
    );
    const { data } = await cache.json(['pull', 'org/model']);
    expect(data).toMatchObject({ download_status: 'success' });
    expect(data!.preflight_warning).toContain('org/model');
  });

  it('that lies about a file is a failed download', async () => {
    server.add('org/model', files);
    server.faults.add(({ file }) => file === 'tokenizer.json', { kind: 'flip', at: 0 });
    expect(await refused('org/model')).toMatchObject({
      type: 'download_failed',
      detail: { reason: 'hash_mismatch', file: 'tokenizer.json' },
      data: { download_status: 'failed' },
    });
  });
});

describe('progress', () => {
  it('comes as JSON lines on stderr when asked for', async () => {
    server.add('org/model', files);
    const { stdout, stderr } = await cache.run(['pull', 'org/model', '--json', '--json-progress']);
    expect(JSON.parse(stdout)).toMatchObject({ status: 'success' });
    const events = stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events[0]).toMatchObject({ type: 'plan', total_bytes: expect.any(Number) as number });
    expect(events.at(-1)).toMatchObject({ type: 'file' });
  });
});

describe('an interrupted pull', () => {
  const large = modelFiles({ shards: 2, shardBytes: 6 * 2 ** 20 });
  const bytes = large.reduce((sum, file) => sum + file.size, 0);

  /** Starts a pull and sends it a signal when half of it has come. */
  async function interruptedBy(
    signal: NodeJS.Signals,
  ): Promise<{ code: number | null; stderr: string }> {
    const child = spawn(process.execPath, [program, 'pull', 'org/model'], {
      env: { ...process.env, ...cache.env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    let sent = false;
    server.faults.add(({ host }) => host === 'cdn', {
      kind: 'slow',
      chunkBytes: 32_768,
      pauseMs: 2,
    });
    const watch = setInterval(() => {
      if (!sent && server.fileBytesSent() > bytes / 2) sent = child.kill(signal);
    }, 5);
    const [code] = (await once(child, 'close')) as [number | null];
    clearInterval(watch);
    server.faults.clear();
    return { code, stderr };
  }

  it('by Ctrl-C says how to go on, and goes on', async () => {
    server.add('org/model', large);
    const { code, stderr } = await interruptedBy('SIGINT');
    expect({ code, stderr }).toEqual({
      code: 130,
      stderr: 'pull: Error: interrupted: "mlxk pull org/model" goes on from here\n',
    });
    expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
      download_status: 'success',
    });
    expect(wrongIn(snapshotOf('org/model'), large)).toEqual([]);
    // No more twice than what was on its way: a piece of 256 KiB on each of eight connections.
    expect(server.fileBytesSent()).toBeLessThanOrEqual(bytes + 8 * 2 ** 18);
    expect(straysIn(cache.hub)).toEqual([]);
  });

  it('by its death is not healthy, and goes on', async () => {
    server.add('org/model', large);
    expect((await interruptedBy('SIGKILL')).code).toBe(null);
    const { data } = await cache.json(['health', 'org/model']);
    expect(data!.summary).toMatchObject({ healthy_count: 0 });
    expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
      download_status: 'success',
    });
    expect(wrongIn(snapshotOf('org/model'), large)).toEqual([]);
    expect(straysIn(cache.hub)).toEqual([]);
  });

  it('of another tool, with an index and one of three shards, is not taken for a model', async () => {
    server.add('org/model', files);
    await cache.json(['pull', 'org/model']);
    for (const number of ['2', '3']) {
      rmSync(path.join(snapshotOf('org/model'), `model-0000${number}-of-00003.safetensors`));
    }
    expect((await cache.json(['health', 'org/model'])).data!.summary).toMatchObject({
      healthy_count: 0,
    });
    expect((await cache.json(['pull', 'org/model'])).data).toMatchObject({
      download_status: 'requires_confirmation',
    });
    await cache.json(['pull', 'org/model', '--force-resume']);
    expect((await cache.json(['health', 'org/model'])).data!.summary).toMatchObject({
      healthy_count: 1,
    });
  });
});

describe('a cache that others laid out', () => {
  it('with a link in place of the repository is written through, not around', async () => {
    server.add('org/model', files);
    const elsewhere = path.join(cache.home, 'elsewhere');
    mkdirSync(elsewhere);
    mkdirSync(cache.hub);
    symlinkSync(elsewhere, cache.repository('org/model'));
    await cache.json(['pull', 'org/model']);
    expect(wrongIn(snapshotOf('org/model'), files)).toEqual([]);
    expect(everythingIn(elsewhere)).toContain('blobs');
  });
});
