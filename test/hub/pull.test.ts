import { existsSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { health } from '../../lib/cache/health.js';
import { pull, type PullEvent, type PullOptions } from '../../lib/cache/pull.js';
import { remove } from '../../lib/cache/remove.js';
import { MlxkError } from '../../lib/errors.js';
import { etagOf, type HubFile, hubFile, HubServer } from '../helpers/hub-server/index.js';
import {
  everythingIn,
  into,
  modelFiles,
  PIECE_BYTES,
  straysIn,
  wrongIn,
} from '../helpers/remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const hub = new HubServer();
let cache: string;

beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => {
  cache = path.join(temporaryFolder(), 'hub');
});
afterEach(() => {
  hub.reset();
  hub.repositories.clear();
  hub.tokens.clear();
  removeTemporaryFolders();
});

const options = (more: PullOptions = {}): PullOptions => into(cache, hub.endpoint, more);

async function failure(work: Promise<unknown>): Promise<MlxkError> {
  const error = await work.then(
    () => expect.fail('it did not fail'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MlxkError);
  return error as MlxkError;
}

const total = (files: readonly HubFile[]): number =>
  files.reduce((sum, file) => sum + file.size, 0);
const isShard = (file: string | undefined): boolean => /safetensors$/.test(file ?? '');

describe('a pull', () => {
  it('brings every file into the layout of the hub, and notes the branch', async () => {
    const files = modelFiles();
    const repository = hub.add('org/model', files);
    const commit = repository.resolve('main')!;
    const result = await pull('org/model', options());
    const folder = path.join(cache, 'models--org--model', 'snapshots', commit);
    expect(result).toEqual({
      ...{ model: 'org/model', commit, folder, files: files.length },
      ...{ totalBytes: total(files), fetchedBytes: total(files) },
    });
    expect(wrongIn(folder, files)).toEqual([]);
    expect(readFileSync(path.join(cache, 'models--org--model', 'refs', 'main'), 'utf8')).toBe(
      commit,
    );
    expect(health(folder)).toMatchObject({ healthy: true });
    expect(straysIn(cache)).toEqual([]);
  });

  it('asks for nothing twice, and a second one for no bytes at all', async () => {
    const files = modelFiles();
    hub.add('org/model', files);
    await pull('org/model', options());
    expect(hub.fileBytesSent()).toBe(total(files));
    expect((await pull('org/model', options())).fetchedBytes).toBe(0);
    expect(hub.fileBytesSent()).toBe(total(files));
  });

  it('takes the revision that is asked for, by either spelling', async () => {
    const [old, next] = [modelFiles({ seed: 'old' }), modelFiles({ seed: 'next' })];
    const repository = hub.add('org/model', old);
    const first = repository.resolve('main')!;
    repository.commit(next, 'main');
    repository.commit(next, 'dev/next');
    expect((await pull(`org/model@${first}`, options())).commit).toBe(first);
    const dev = await pull('org/model', options({ revision: 'dev/next' }));
    expect(wrongIn(dev.folder, next)).toEqual([]);
    const refs = path.join(cache, 'models--org--model', 'refs');
    expect(everythingIn(refs)).toEqual(['dev', 'dev/next']);
  });

  it('takes over what revisions share', async () => {
    const repository = hub.add('org/model', modelFiles());
    await pull('org/model', options());
    hub.reset();
    repository.commit([...modelFiles(), hubFile('LICENSE', 'MIT')]);
    expect((await pull('org/model', options())).fetchedBytes).toBe(3);
    expect(hub.fileBytesSent()).toBe(3);
  });

  it('brings what fits the patterns', async () => {
    hub.add('org/model', modelFiles());
    const { folder } = await pull(
      'org/model',
      options({ include: ['*.json', 'extra/'], exclude: ['tokenizer*'] }),
    );
    expect(everythingIn(folder)).toEqual([
      ...['config.json', 'extra', 'extra/notes.txt', 'model.safetensors.index.json'],
    ]);
  });

  it('reads a listing of many pages', async () => {
    const files = modelFiles({ shards: 30, shardBytes: 100 });
    hub.add('org/model', files);
    hub.pageSize = 7;
    const result = await pull('org/model', options()).finally(() => (hub.pageSize = 1000));
    expect(wrongIn(result.folder, files)).toEqual([]);
  });

  it('tells how it gets on, up to the last byte', async () => {
    const files = modelFiles();
    hub.add('org/model', files);
    const events: PullEvent[] = [];
    await pull('org/model', options({ onProgress: (event) => events.push(event) }));
    expect(events[0]).toMatchObject({ type: 'plan', files: files.length, presentBytes: 0 });
    const done = events.filter(({ type }) => type === 'file');
    expect(done).toHaveLength(files.length);
    const progress = events.filter((event) => event.type === 'progress');
    expect(progress.at(-1)).toMatchObject({ bytes: total(files), totalBytes: total(files) });
    expect(progress.map(({ bytes }) => bytes)).toEqual(
      progress.map(({ bytes }) => bytes).sort((a, b) => a - b),
    );
  });

  it('uses as many connections as it is told to, and Node warns of nothing', async () => {
    const files = modelFiles({ shards: 2, shardBytes: 40 * PIECE_BYTES });
    hub.add('org/model', files);
    hub.faults.add(({ host }) => host === 'cdn', { kind: 'slow', chunkBytes: 32_768, pauseMs: 5 });
    const warnings: Error[] = [];
    const note = (warning: Error): void => void warnings.push(warning);
    process.on('warning', note);
    const { signal } = new AbortController();
    const { folder } = await pull('org/model', options({ connections: 32, signal }));
    process.off('warning', note);
    expect(wrongIn(folder, files)).toEqual([]);
    expect(warnings).toEqual([]);
  });

  it('fetches a content with two names once, and an empty file not at all', async () => {
    const files = [
      hubFile('config.json', '{"a": 1}'),
      hubFile('a.safetensors', Buffer.alloc(1000, 1)),
      hubFile('b.safetensors', Buffer.alloc(1000, 1)),
      hubFile('empty.txt', ''),
      hubFile('empty.bin', ''),
    ];
    hub.add('org/model', files);
    const result = await pull('org/model', options());
    expect(wrongIn(result.folder, files)).toEqual([]);
    expect(result).toMatchObject({ fetchedBytes: 1008, totalBytes: 2008 });
  });

  it('mends a blob that is cut short and a file that is gone', async () => {
    const files = modelFiles();
    hub.add('org/model', files);
    const { folder } = await pull('org/model', options());
    const shard = files.find((file) => isShard(file.path))!;
    writeFileSync(path.join(cache, 'models--org--model', 'blobs', etagOf(shard)), 'cut');
    unlinkSync(path.join(folder, 'config.json'));
    expect(health(folder).healthy).toBe(false);
    expect((await pull('org/model', options())).fetchedBytes).toBe(shard.size);
    expect(wrongIn(folder, files)).toEqual([]);
  });
});

describe('a refusal leaves nothing behind:', () => {
  const refused = async (spec: string, more: PullOptions = {}): Promise<MlxkError> => {
    const error = await failure(pull(spec, options(more)));
    expect(existsSync(cache)).toBe(false);
    expect(hub.fileBytesSent()).toBe(0);
    return error;
  };

  it('a model that is not there', async () => {
    expect(await refused('org/none')).toMatchObject({
      code: 'access_denied',
      reason: 'repository_not_found',
      retryable: false,
    });
  });

  it('a revision that is not there', async () => {
    hub.add('org/model', modelFiles());
    expect(await refused('org/model@none')).toMatchObject({
      code: 'access_denied',
      reason: 'revision_not_found',
    });
  });

  it('a private model, unless the token may read it', async () => {
    const repository = hub.add('org/model', modelFiles(), { private: true });
    hub.tokens.set('hf_stranger', 'stranger').set('hf_owner', 'owner');
    repository.readers.add('hf_owner');
    const first = await refused('org/model');
    expect(first).toMatchObject({ code: 'access_denied', reason: 'repository_not_found' });
    expect(await refused('org/model', { token: 'hf_stranger' })).toMatchObject({
      reason: 'repository_not_found',
    });
    await pull('org/model', options({ token: 'hf_owner' }));
  });

  it('a gated model, unless the token was given access', async () => {
    const repository = hub.add('org/model', modelFiles(), { gated: true });
    hub.tokens.set('hf_stranger', 'stranger').set('hf_guest', 'guest');
    repository.readers.add('hf_guest');
    expect(await refused('org/model')).toMatchObject({ code: 'access_denied', reason: 'gated' });
    const error = await refused('org/model', { token: 'hf_stranger' });
    expect(error).toMatchObject({ code: 'access_denied', reason: 'gated' });
    await pull('org/model', options({ token: 'hf_guest' }));
  });

  it('a token that the hub does not know, without telling it', async () => {
    hub.add('org/model', modelFiles());
    const error = await refused('org/model', { token: 'hf_secret' });
    expect(error).toMatchObject({ code: 'access_denied', reason: 'token_refused' });
    expect(JSON.stringify([error.message, error.detail, error.stack])).not.toContain('hf_secret');
  });

  it.each([
    '',
    '/a',
    'a/',
    'a//b',
    'a/b/c',
    '../x',
    'a/..',
    'a/b?c',
    'a/b#c',
    'a/b\n',
    'a\\b',
    'a/%2e%2e',
    'a/b--c',
    `o/${'x'.repeat(95)}`,
  ])('the name %j, before any request', async (name) => {
    const error = await refused(name);
    expect(error).toMatchObject({ code: 'validation_error', reason: 'repository_id_invalid' });
    expect(hub.requests).toEqual([]);
  });

  it.each(['../x', '/x', 'a\nb', 'a?b', 'a#b', '..', 'a/../b', '%2e%2e', ''])(
    'the revision %j, before any request',
    async (revision) => {
      const error = await refused('org/model', { revision });
      expect(error).toMatchObject({ code: 'validation_error', reason: 'revision_invalid' });
      expect(hub.requests).toEqual([]);
    },
  );

  it('but a name of 96 characters may be one', async () => {
    const name = `o/${'x'.repeat(94)}`;
    hub.add(name, modelFiles());
    expect((await pull(name, options())).model).toBe(name);
  });

  it('a size that the disk has no room for', async () => {
    const huge = hubFile('model.safetensors', 'x', { claimedSize: 2 ** 52 });
    hub.add('org/model', [hubFile('config.json', '{}'), huge]);
    const error = await refused('org/model');
    expect(error).toMatchObject({ code: 'download_failed', reason: 'disk_full' });
    expect(error.detail.needed_bytes).toBe(2 ** 52 + 2);
    expect(error.detail.free_bytes).toBeGreaterThan(0);
  });

  it('what the caller stops before it began', async () => {
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(pull('org/model', options({ signal }))).rejects.toThrow('stopped');
    expect(hub.requests).toEqual([]);
  });
});

describe('a hostile repository is refused by name:', () => {
  const refused = async (files: HubFile[]): Promise<MlxkError> => {
    hub.add('org/model', files);
    const error = await failure(pull('org/model', options()));
    expect(error.code).toBe('validation_error');
    expect(everythingIn(path.dirname(cache))).toEqual([]);
    // eslint-disable-next-line no-control-regex
    expect(error.message).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
    return error;
  };

  it.each([
    ...[
      '../x',
      'a/../../x',
      '..',
      '.',
      './x',
      '/etc/x',
      'a//b',
      'a/',
      'C:\\x',
      'C:x',
      '\\\\host\\x',
    ],
    ...[
      'a\\b',
      'a\0b',
      'a\nb',
      '\x1b[2Jx',
      'a\u009bb',
      'a\u202egpj.exe',
      'CON',
      'aux.json',
      'a/NUL.txt',
    ],
    ...['a.', 'a ', 'a./b', 'x'.repeat(300), 'a/'.repeat(1100) + 'b', '\ud800'],
  ])('a file named %j', async (name) => {
    const error = await refused([hubFile('config.json', '{}'), hubFile(name, 'x')]);
    expect(error.reason).toBe('file_name_refused');
    expect(error.message).toContain('org/model has a file named');
  });

  it('two names that some file systems take for one', async () => {
    const error = await refused([hubFile('Model.txt', 'a'), hubFile('model.TXT', 'b')]);
    expect(error.message).toContain('the same as "Model.txt"');
  });

  it('a file that is also a folder', async () => {
    const error = await refused([hubFile('a', 'a'), hubFile('a/b', 'b')]);
    expect(error.message).toContain('"a" is a file');
  });

  it('100,000 files', async () => {
    const one = hubFile('x', 'x');
    hub.pageSize = 10_000;
    const many = Array.from({ length: 100_000 }, (_, index) => ({ ...one, path: `f${index}` }));
    const error = await refused(many).finally(() => (hub.pageSize = 1000));
    expect(error.reason).toBe('too_many_files');
    expect(error.message).toContain('org/model has more than');
  });

  it.each(['/revision/', '/tree/'])(
    'an answer of 2 GB to %s, of which little is read',
    async (part) => {
      hub.faults.add(({ path: asked }) => asked.includes(part), { kind: 'flood', bytes: 2e9 });
      const error = await refused([hubFile('config.json', '{}')]);
      expect(error.reason).toBe('answer_too_long');
      expect(hub.requests.at(-1)!.sentBytes).toBeLessThan(100e6);
    },
  );

  it.each([
    ['a hash that is a path', { oid: '../../../x' }],
    ['a hash of another length', { oid: 'abc' }],
    ['a hash of large files that is a path', { lfs: '../x' }],
    ['a negative size', { size: -1 }],
    ['a size that is no whole number', { size: 1.5 }],
    ['a size beyond all numbers', { size: 2 ** 60 }],
  ])('%s', async (_, lie) => {
    const file = { ...hubFile('x.txt', 'x'), ...lie };
    expect((await refused([hubFile('config.json', '{}'), file])).reason).toBe('listing_invalid');
  });

  it('a commit that is a path', async () => {
    const repository = hub.add('org/model', modelFiles());
    repository.commits.set('../../../../x', repository.commits.get(repository.resolve('main')!)!);
    repository.refs.set('main', '../../../../x');
    expect(await failure(pull('org/model', options()))).toMatchObject({
      reason: 'listing_invalid',
    });
    expect(everythingIn(path.dirname(cache))).toEqual([]);
  });
});

describe('the token', () => {
  const withToken = (more: PullOptions = {}): PullOptions =>
    options({ token: 'hf_secret', ...more });
  const seenBy = (host: string): (string | undefined)[] =>
    hub.requests
      .filter((request) => request.host === host)
      .map(({ headers }) => headers.authorization);

  beforeEach(() => {
    hub.tokens.set('hf_secret', 'user');
    hub.add('org/model', modelFiles());
  });

  it('goes to the hub with every request, and to the other host with none', async () => {
    await pull('org/model', withToken());
    expect(new Set(seenBy('hub'))).toEqual(new Set(['Bearer hf_secret']));
    expect(seenBy('cdn').length).toBeGreaterThan(0);
    expect(new Set(seenBy('cdn'))).toEqual(new Set([undefined]));
  });

  it.each(['/revision/', '/tree/', 'config.json'])(
    'does not follow a redirect of %s elsewhere',
    async (part) => {
      const place = `${hub.cdn}/elsewhere`;
      hub.faults.add(({ host, path: asked }) => host === 'hub' && asked.includes(part), {
        kind: 'redirect',
        to: place,
      });
      await failure(pull('org/model', withToken()));
      expect(seenBy('cdn').length).toBeGreaterThan(0);
      expect(new Set(seenBy('cdn'))).toEqual(new Set([undefined]));
    },
  );

  it('does not follow the link to the next page of a listing elsewhere', async () => {
    hub.pageSize = 2;
    hub.faults.add(({ path: asked }) => asked.includes('/tree/'), {
      kind: 'headers',
      headers: { link: `<${hub.cdn}/next>; rel="next"` },
    });
    await failure(pull('org/model', withToken()).finally(() => (hub.pageSize = 1000)));
    expect(seenBy('cdn')).toEqual([undefined]);
  });

  it.each(['hf_a\nX-Evil: 1', 'hf_ü', 'x'.repeat(9000)])('%j is refused unsent', async (token) => {
    const error = await failure(pull('org/model', options({ token })));
    expect(error).toMatchObject({ code: 'validation_error', reason: 'token_malformed' });
    expect(error.message).not.toContain(token);
    expect(hub.requests).toEqual([]);
  });
});

describe('through a bad connection', () => {
  const files = modelFiles({ shards: 2, shardBytes: 20 * PIECE_BYTES });
  const bytes = total(files);

  beforeEach(() => {
    hub.add('org/model', files);
  });

  it('that is cut at every hundredth, all arrives, and hardly a byte twice', async () => {
    hub.faults.add(({ file, host }) => isShard(file) && host === 'cdn', {
      kind: 'cut',
      afterBytes: (20 * PIECE_BYTES) / 100,
    });
    const { folder } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
    expect(hub.fileBytesSent()).toBeLessThan(1.1 * bytes);
  });

  it('that falls silent, all arrives', async () => {
    hub.faults.add(({ file }) => isShard(file), { kind: 'stall', afterBytes: 1000 }, 4);
    const { folder } = await pull('org/model', options({ stallMs: 100 }));
    expect(wrongIn(folder, files)).toEqual([]);
  });

  it.each([408, 429, 500, 502, 503, 504])(
    'that answers %i for a while, all arrives',
    async (status) => {
      hub.faults.add(({ file }) => isShard(file), { kind: 'status', status }, 2);
      hub.faults.add(({ path: asked }) => asked.includes('/tree/'), { kind: 'status', status }, 1);
      const { folder } = await pull('org/model', options());
      expect(wrongIn(folder, files)).toEqual([]);
    },
  );

  it('that asks to wait, it waits as long', async () => {
    const headers = { 'retry-after': '1' };
    hub.faults.add(
      ({ file }) => file === 'config.json',
      { kind: 'status', status: 429, headers },
      2,
    );
    const events: PullEvent[] = [];
    await pull('org/model', options({ onProgress: (event) => events.push(event) }));
    expect(events).toContainEqual(expect.objectContaining({ type: 'retry', delayMs: 1000 }));
  });

  it('that asks to wait too long, it gives up', async () => {
    const headers = { 'retry-after': '86400' };
    hub.faults.add(({ file }) => file === 'config.json', { kind: 'status', status: 429, headers });
    const error = await failure(pull('org/model', options()));
    expect(error).toMatchObject({ code: 'download_failed', retryable: true });
  });

  it('that answers 500 for ever, it gives up, and goes on later where it was', async () => {
    hub.faults.add(({ file }) => file === 'model-00002-of-00002.safetensors', {
      kind: 'status',
      status: 500,
    });
    const error = await failure(pull('org/model', options()));
    expect(error).toMatchObject({
      code: 'download_failed',
      reason: 'hub_unreachable',
      retryable: true,
    });
    hub.faults.clear();
    const sent = hub.fileBytesSent();
    const { folder, fetchedBytes } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
    expect(sent + fetchedBytes).toBeLessThan(1.1 * bytes);
    expect(straysIn(cache)).toEqual([]);
  });

  it('whose server knows no ranges, all arrives', async () => {
    hub.faults.add(({ file, host }) => isShard(file) && host === 'cdn', { kind: 'ignore-range' });
    const { folder } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
  });

  it('whose signed addresses run out, all arrives', async () => {
    let asked = 0;
    hub.faults.add(({ host }) => host === 'cdn' && ++asked % 5 === 0, {
      kind: 'status',
      status: 403,
    });
    const { folder } = await pull('org/model', options({ connections: 2 }));
    expect(wrongIn(folder, files)).toEqual([]);
  });

  it('that is stopped, the next pull fetches what is missing', async () => {
    const stopping = new AbortController();
    const onProgress = (event: PullEvent): void => {
      if (event.type === 'progress' && event.bytes > bytes / 2) stopping.abort(new Error('enough'));
    };
    const stopped = pull(
      'org/model',
      options({ signal: stopping.signal, onProgress, connections: 2 }),
    );
    await expect(stopped).rejects.toThrow('enough');
    const { folder, fetchedBytes } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
    expect(fetchedBytes).toBeLessThan(bytes / 2 + 2 * PIECE_BYTES);
    expect(straysIn(cache)).toEqual([]);
  });

  it('that compresses what it should not, all arrives', async () => {
    hub.faults.add(({ host }) => host === 'hub', { kind: 'gzip' });
    const { folder } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
  });

  it('that leads from one place of the hub to another, it follows, with the token', async () => {
    hub.tokens.set('hf_me', 'me');
    hub.faults.add(({ file, query }) => file === 'config.json' && !query.has('cached'), {
      kind: 'redirect',
      to: '?cached=1',
    });
    const { folder } = await pull('org/model', options({ token: 'hf_me' }));
    expect(wrongIn(folder, files)).toEqual([]);
    const followed = hub.requests.filter(({ query }) => query.has('cached'));
    expect(followed.map(({ headers }) => headers.authorization)).toContain('Bearer hf_me');
  });

  it('the first question may fail: then there is a warning', async () => {
    hub.faults.add(
      ({ path: asked }) => asked.includes('/revision/'),
      { kind: 'status', status: 500 },
      1,
    );
    const result = await pull('org/model', options());
    expect(result.warning).toContain('org/model');
    expect(wrongIn(result.folder, files)).toEqual([]);
  });

  it('the first question may have no answer: then there is a warning too', async () => {
    const unanswered = { kind: 'stall', afterBytes: 0 } as const;
    hub.faults.add(({ path: asked }) => asked.includes('/revision/'), unanswered, 1);
    const result = await pull('org/model', options({ stallMs: 200 }));
    expect(result.warning).toContain('said nothing');
    expect(wrongIn(result.folder, files)).toEqual([]);
  });

  it('nobody listens at all: an error that names the host', async () => {
    const error = await failure(pull('org/model', options({ endpoint: 'http://127.0.0.1:9' })));
    expect(error).toMatchObject({ code: 'download_failed', reason: 'hub_unreachable' });
    expect(error.message).toContain('127.0.0.1:9');
    expect(everythingIn(cache)).toEqual([]);
  });
});

describe('a lie about a file is found out:', () => {
  const files = modelFiles({ shards: 1, shardBytes: 3 * PIECE_BYTES });
  const shard = files.find((file) => isShard(file.path))!;
  const ofShard = (host: string) => (request: { file?: string | undefined; host: string }) =>
    request.file === shard.path && request.host === host;

  const refused = async (): Promise<MlxkError> => {
    const repository = hub.add('org/model', files);
    const error = await failure(pull('org/model', options()));
    expect(error.code).toBe('download_failed');
    const snapshot = path.join(
      cache,
      'models--org--model',
      'snapshots',
      repository.resolve('main')!,
    );
    expect(health(snapshot).healthy).toBe(false);
    expect(existsSync(path.join(cache, 'models--org--model', 'blobs', etagOf(shard)))).toBe(false);
    hub.faults.clear();
    const { folder } = await pull('org/model', options());
    expect(wrongIn(folder, files)).toEqual([]);
    expect(straysIn(cache)).toEqual([]);
    return error;
  };

  it('one bit flipped', async () => {
    hub.faults.add(ofShard('cdn'), { kind: 'flip', at: 100_000 });
    expect((await refused()).reason).toBe('hash_mismatch');
  });

  it('one bit flipped in a file that Git hashes', async () => {
    hub.faults.add(({ file }) => file === 'tokenizer.json', { kind: 'flip', at: 3 });
    hub.add('org/model', files);
    const error = await failure(pull('org/model', options()));
    expect(error.reason).toBe('hash_mismatch');
    expect(error.message).toContain('tokenizer.json');
  });

  it('another body of the same length', async () => {
    const other = hubFile(shard.path, shard.content, { delivered: Buffer.alloc(shard.size, 'x') });
    hub.add('org/model', [...files.filter((file) => file !== shard), other]);
    expect((await failure(pull('org/model', options()))).reason).toBe('hash_mismatch');
  });

  it.each([
    ['a longer body', 'cdn', { kind: 'longer', by: 10 }],
    ['a shorter body', 'cdn', { kind: 'shorter', by: 10 }],
    ['another range', 'cdn', { kind: 'other-range', by: -1 }],
    ['another tag', 'hub', { kind: 'headers', headers: { 'x-linked-etag': '"abc"' } }],
    ['another size', 'hub', { kind: 'headers', headers: { 'x-linked-size': '5' } }],
    ['another commit', 'hub', { kind: 'headers', headers: { 'x-repo-commit': 'a'.repeat(40) } }],
    ['a page in place of it', 'cdn', { kind: 'status', status: 200, body: '<html>Sign in</html>' }],
    ['416', 'cdn', { kind: 'status', status: 416 }],
    ['404', 'hub', { kind: 'status', status: 404 }],
    ['a loop', 'hub', { kind: 'redirect', to: '?again' }],
    ['a way to file:', 'hub', { kind: 'redirect', to: 'file:///etc/passwd' }],
    ['a way to nowhere', 'hub', { kind: 'redirect', to: 'http://[' }],
  ] as const)('%s', async (_, host, fault) => {
    hub.faults.add((request) => ofShard(host)(request) && request.method === 'GET', fault);
    if (_ === '404') {
      hub.add('org/model', files);
      expect((await failure(pull('org/model', options()))).code).toBe('access_denied');
      return;
    }
    await refused();
  });
});

describe('a pull under way', () => {
  it('keeps the model from being removed, and ends whole', async () => {
    const files = modelFiles();
    hub.add('org/model', files);
    hub.faults.add(({ file }) => isShard(file), { kind: 'slow', chunkBytes: 8192, pauseMs: 2 });
    let begun = (): void => undefined;
    const beginning = new Promise<void>((resolve) => (begun = resolve));
    const onProgress = ({ type }: PullEvent): void => {
      if (type === 'progress') begun();
    };
    const pulling = pull('org/model', options({ onProgress }));
    await beginning;
    const error = await failure(remove('org/model', { env: { HF_HUB_CACHE: cache } }));
    expect(error.code).toBe('locks_present');
    expect(wrongIn((await pulling).folder, files)).toEqual([]);
  });
});

describe('eight at once', () => {
  it('fetch each byte once, and all have the whole', async () => {
    const files = modelFiles({ shards: 4 });
    hub.add('org/model', files);
    hub.faults.add(({ file }) => isShard(file), { kind: 'slow', chunkBytes: 8192, pauseMs: 1 });
    const events: PullEvent[] = [];
    const onProgress = (event: PullEvent): void => void events.push(event);
    const results = await Promise.all(
      Array.from({ length: 8 }, () => pull('org/model', options({ onProgress }))),
    );
    for (const { folder } of results) expect(wrongIn(folder, files)).toEqual([]);
    expect(hub.fileBytesSent()).toBe(total(files));
    expect(events).toContainEqual(expect.objectContaining({ type: 'waiting' }));
    expect(straysIn(cache)).toEqual([]);
  });
});
