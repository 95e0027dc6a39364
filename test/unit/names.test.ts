import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { folderNameOf, hubCacheFolder, idOf, isRepositoryId } from '../../lib/cache/layout.js';
import { looksLikeModel, resolveModel } from '../../lib/cache/names.js';
import type { MlxkError } from '../../lib/errors.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const A = 'a'.repeat(40);
const B = `bbbb${'0'.repeat(36)}`;
let hub: string;
let env: { HF_HUB_CACHE: string };

beforeEach(() => {
  hub = temporaryFolder();
  env = { HF_HUB_CACHE: hub };
});
afterEach(removeTemporaryFolders);

/** Adds snapshots, oldest first. */
function cache(id: string, commits: string[] = [A], refs: Record<string, string> = {}): void {
  const folder = path.join(hub, folderNameOf(id));
  for (const [index, commit] of commits.entries()) {
    const snapshot = path.join(folder, 'snapshots', commit);
    mkdirSync(snapshot, { recursive: true });
    utimesSync(snapshot, 1000 + index, 1000 + index);
  }
  for (const [name, commit] of Object.entries(refs)) {
    mkdirSync(path.dirname(path.join(folder, 'refs', name)), { recursive: true });
    writeFileSync(path.join(folder, 'refs', name), commit);
  }
}

async function refusal(spec: string): Promise<MlxkError> {
  return await resolveModel(spec, env).then(
    () => expect.fail(`${spec} was resolved`),
    (error: unknown) => error as MlxkError,
  );
}

describe('the place of the cache', () => {
  it('is HF_HUB_CACHE, else HF_HOME/hub, else below the home folder', () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: '/x', HF_HOME: '/y' })).toBe('/x');
    expect(hubCacheFolder({ HF_HOME: '/y' })).toBe(path.join('/y', 'hub'));
    expect(hubCacheFolder({})).toMatch(/\.cache.huggingface.hub$/);
  });

  it('takes an empty variable as none', () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: '', HF_HOME: '' })).toBe(hubCacheFolder({}));
  });
});

describe('names and folders', () => {
  it.each([
    ['mlx-community/Phi-3-mini', 'models--mlx-community--Phi-3-mini'],
    ['gpt2', 'models--gpt2'],
  ])('of %s map both ways', (id, folder) => {
    expect(folderNameOf(id)).toBe(folder);
    expect(idOf(folder)).toBe(id);
  });

  it('of broken entries are read as they are', () => {
    expect(idOf('models--org--model---x')).toBe('org/model/-x');
    expect(idOf('models--')).toBe('');
    expect(idOf('datasets--org--set')).toBeUndefined();
  });

  it.each(['../x', 'a/../b', 'a/b/c', '/a', 'a/', '', '.', 'a\\b', 'a/b\n'])(
    'refuse %j as a repository',
    (id) => {
      expect(isRepositoryId(id)).toBe(false);
    },
  );
});

describe('a model is found', () => {
  it('by its full id', async () => {
    cache('org/one');
    cache('org/one-4bit');
    expect(await resolveModel('org/one', env)).toEqual({
      name: 'org/one',
      revision: A,
      folder: path.join(hub, 'models--org--one', 'snapshots', A),
    });
  });

  it('by a part of it, whatever its case, if only one fits', async () => {
    cache('org/Llama-3');
    cache('org/qwen');
    expect((await resolveModel('LLAMA', env)).name).toBe('org/Llama-3');
  });

  it('by its short name under the usual owner, before other models it is a part of', async () => {
    cache('mlx-community/Phi-3-mini');
    cache('mlx-community/Phi-3-mini-4bit');
    expect((await resolveModel('Phi-3-mini', env)).name).toBe('mlx-community/Phi-3-mini');
  });

  it('at its main branch, not at the newest snapshot', async () => {
    cache('org/one', [A, B], { main: A });
    expect((await resolveModel('org/one', env)).revision).toBe(A);
  });

  it('at the newest snapshot where no branch says otherwise', async () => {
    cache('org/one', [A, B]);
    expect((await resolveModel('org/one', env)).revision).toBe(B);
  });

  it('at a branch, a tag with a slash, or the first digits of a commit', async () => {
    cache('org/one', [A, B], { main: A, dev: B, 'refs/pr/1': B });
    expect((await resolveModel('org/one@dev', env)).revision).toBe(B);
    expect((await resolveModel('org/one@refs/pr/1', env)).revision).toBe(B);
    expect((await resolveModel('one@bbbb', env)).revision).toBe(B);
    expect((await resolveModel('@bbbb', env)).name).toBe('org/one');
  });

  it('among several of one name by the revision only one has', async () => {
    cache('org/one', [A]);
    cache('org/one-b', [B]);
    expect((await resolveModel('org/on@bbbb', env)).name).toBe('org/one-b');
  });

  it('as a folder, by path', async () => {
    const folder = temporaryFolder();
    expect(await resolveModel(folder, env)).toEqual({ name: folder, folder });
  });
});

describe('a model is refused', () => {
  it('when several fit, with all of them', async () => {
    cache('org/one');
    cache('other/one');
    const error = await refusal('one');
    expect(error.code).toBe('ambiguous_match');
    expect(error.message).toContain('org/one, other/one');
    expect(error.detail.matches).toEqual(['org/one', 'other/one']);
  });

  it.each(['org/none', 'none', '', './none', '/none/at/all', '../../etc/none', 'x'.repeat(5000)])(
    'when %s is not there',
    async (spec) => {
      expect((await refusal(spec)).code).toBe('model_not_found');
    },
  );

  it('when its revision is not there, with those that are', async () => {
    cache('org/one', [A]);
    const error = await refusal('org/one@cccc');
    expect(error.code).toBe('model_not_found');
    expect(error.reason).toBe('revision_missing');
    expect(error.detail.available_hashes).toEqual([A]);
  });

  it('when its revision would lead out of the cache', async () => {
    cache('org/one', [A]);
    writeFileSync(path.join(hub, 'secret'), A);
    expect((await refusal('org/one@../../secret')).reason).toBe('revision_missing');
  });

  it('when it was never downloaded to the end', async () => {
    cache('org/one', []);
    mkdirSync(path.join(hub, 'models--org--one', 'blobs'), { recursive: true });
    expect((await refusal('org/one')).reason).toBe('snapshot_missing');
  });

  it('when there is no cache at all', async () => {
    env = { HF_HUB_CACHE: path.join(hub, 'none') };
    expect((await refusal('org/one')).code).toBe('model_not_found');
  });
});

describe('a word looks like a model', () => {
  it.each(['org/model', 'org/model@main', './x', '../x', '/x', '~/x', '.'])(
    'as %s does',
    (word) => {
      expect(looksLikeModel(word)).toBe(true);
    },
  );

  it.each(['hello', 'why is 1/2 less than 1?', 'either/or/both', './x and more', '1 / 2'])(
    'unlike %s',
    (word) => {
      expect(looksLikeModel(word)).toBe(false);
    },
  );
});
