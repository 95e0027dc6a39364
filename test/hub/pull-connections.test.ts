import { existsSync } from 'node:fs';
import path from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { health } from '../../lib/cache/health.js';
import { pull, type PullEvent } from '../../lib/cache/pull.js';
import type { MlxkError } from '../../lib/errors.js';
import { etagOf, hubFile } from '../helpers/hub-server/index.js';
import {
  everythingIn,
  modelFiles,
  PIECE_BYTES,
  straysIn,
  wrongIn,
} from '../helpers/remote-model.js';
import { cache, failure, hub, isShard, options, total } from '../helpers/served-hub.js';

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
    const { folder } = await pull('org/model', options({ stallMs: 500 }));
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
