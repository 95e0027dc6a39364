import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { hubSettings } from '../../lib/hub/settings.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

let home: string;
beforeEach(() => {
  home = temporaryFolder();
});
afterEach(removeTemporaryFolders);

describe('the token', () => {
  const token = async (
    env: Record<string, string>,
    option?: string | null,
  ): Promise<string | undefined> =>
    (await hubSettings({ token: option }, { HF_HOME: home, ...env })).token;

  it('is the one that is given, else of the environment, else the stored one', async () => {
    writeFileSync(path.join(home, 'token'), ' hf_stored\n');
    expect(await token({ HF_TOKEN: 'hf_env' }, 'hf_given')).toBe('hf_given');
    expect(await token({ HF_TOKEN: ' hf_env\n' })).toBe('hf_env');
    expect(await token({ HUGGINGFACE_HUB_TOKEN: 'hf_old' })).toBe('hf_old');
    expect(await token({ HF_TOKEN: '' })).toBe('hf_stored');
  });

  it('is stored where HF_TOKEN_PATH says', async () => {
    writeFileSync(path.join(home, 'other'), 'hf_other');
    expect(await token({ HF_TOKEN_PATH: path.join(home, 'other') })).toBe('hf_other');
    expect(await token({ HF_TOKEN_PATH: path.join(home, 'none') })).toBeUndefined();
  });

  it('is none when none is wanted, or none is there', async () => {
    expect(await token({})).toBeUndefined();
    mkdirSync(path.join(home, 'token'));
    expect(await token({})).toBeUndefined();
    expect(await token({ HF_TOKEN: 'hf_env' }, null)).toBeUndefined();
    expect(await token({ HF_TOKEN: 'hf_env', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).toBeUndefined();
  });

  it.each(['hf_a\r\nX: y', 'hf a', 'hf_\u00e9', 'x'.repeat(9000)])(
    '%j is refused, and not repeated',
    async (bad) => {
      await expect(token({ HF_TOKEN: bad })).rejects.toMatchObject({ code: 'validation_error' });
      await expect(token({ HF_TOKEN: bad })).rejects.not.toThrow(bad);
    },
  );
});

describe('the hub', () => {
  it.each([
    [{}, 'https://huggingface.co'],
    [{ HF_ENDPOINT: '' }, 'https://huggingface.co'],
    [{ HF_ENDPOINT: 'https://hub.example/prefix/' }, 'https://hub.example/prefix'],
  ])('of %j is %s', async (env, endpoint) => {
    expect((await hubSettings({ token: null }, env)).endpoint).toBe(endpoint);
  });

  it.each(['hub', 'ftp://hub', 'file:///x', 'https://me:secret@hub', 'javascript:1'])(
    'is not %s',
    async (endpoint) => {
      await expect(hubSettings({ endpoint, token: null }, {})).rejects.toMatchObject({
        reason: 'endpoint_invalid',
      });
    },
  );

  it.each([
    ['1', true],
    ['ON', true],
    ['true', true],
    ['0', false],
    ['', false],
    ['no', false],
  ])('with HF_HUB_OFFLINE=%s is offline: %j', async (value, offline) => {
    expect((await hubSettings({ token: null }, { HF_HUB_OFFLINE: value })).offline).toBe(offline);
  });
});
