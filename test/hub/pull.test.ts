import { readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { describe, expect, it } from 'vitest';

import { health } from '../../lib/cache/health.js';
import { pull, type PullEvent } from '../../lib/cache/pull.js';
import { remove } from '../../lib/cache/remove.js';
import { etagOf, hubFile } from '../helpers/hub-server/index.js';
import {
  everythingIn,
  modelFiles,
  PIECE_BYTES,
  straysIn,
  wrongIn,
} from '../helpers/remote-model.js';
import { cache, failure, hub, isShard, options, total } from '../helpers/served-hub.js';

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

  it('whose files are deleted by force says so, and the next one brings them', async () => {
    const files = modelFiles();
    hub.add('org/model', files);
    const last = files.findLast(({ path: name }) => isShard(name))!;
    const env = { HF_HUB_CACHE: cache };
    hub.faults.add(
      ({ file, host }) => file === last.path && host === 'cdn',
      { kind: 'call', call: () => remove('org/model', { env, force: true }).then(() => undefined) },
      1,
    );
    expect(await failure(pull('org/model', options({ connections: 1 })))).toMatchObject({
      code: 'download_failed',
      reason: 'deleted_meanwhile',
    });
    expect(wrongIn((await pull('org/model', options())).folder, files)).toEqual([]);
    expect(straysIn(cache)).toEqual([]);
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

  it('put right what a snapshot has in the place of a file', async () => {
    const files = modelFiles({ shards: 2 });
    hub.add('org/model', files);
    const { folder } = await pull('org/model', options());
    const [first, second] = files.filter(({ path: name }) => isShard(name));
    rmSync(path.join(folder, first!.path));
    symlinkSync('nowhere', path.join(folder, first!.path));
    rmSync(path.join(folder, second!.path));
    writeFileSync(path.join(folder, second!.path), 'something else');
    await Promise.all(Array.from({ length: 8 }, () => pull('org/model', options())));
    expect(wrongIn(folder, files)).toEqual([]);
    expect(straysIn(cache)).toEqual([]);
  });
});
