import { existsSync } from 'node:fs';
import path from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { pull, type PullOptions } from '../../lib/cache/pull.js';
import type { MlxkError } from '../../lib/errors.js';
import { type HubFile, hubFile } from '../helpers/hub-server/index.js';
import { everythingIn, modelFiles } from '../helpers/remote-model.js';
import { cache, failure, hub, options } from '../helpers/served-hub.js';

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

  it('an address in place of an id', async () => {
    const { message } = await refused('https://huggingface.co/org/model/tree/main');
    expect(message).toContain('it is an address; the id in it is "org/model"');
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
