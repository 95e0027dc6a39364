import { mkdirSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

import { folderNameOf, idOf, isRepositoryId } from '../../lib/cache/layout.js';
import { isExplicitPath, locate, splitSpec } from '../../lib/cache/locate.js';
import { MlxkError } from '../../lib/errors.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

afterEach(removeTemporaryFolders);

/** Names as the hub allows them: no `--`, no dots or dashes at the ends. */
const segment = fc.stringMatching(/^[A-Za-z0-9]([._-]?[A-Za-z0-9]){0,15}$/);
const id = fc.oneof(
  segment,
  fc.tuple(segment, segment).map(([owner, name]) => `${owner}/${name}`),
);
/** Names that are folders of their own on every file system. */
const ids = fc.uniqueArray(id, {
  minLength: 1,
  maxLength: 6,
  selector: (name) => name.toLowerCase(),
});
const commit = fc.stringMatching(/^[0-9a-f]{40}$/);

describe('names and folders', () => {
  it('map to each other without loss', () => {
    fc.assert(
      fc.property(id, (name) => {
        expect(isRepositoryId(name)).toBe(true);
        expect(idOf(folderNameOf(name))).toBe(name);
        expect(folderNameOf(name)).not.toContain('/');
      }),
    );
  });

  it('show any folder of the cache, and lead back to it unless it is broken', () => {
    fc.assert(
      fc.property(fc.string(), (rest) => {
        const shown = idOf(`models--${rest}`);
        expect(shown).toBe(rest.split('--').join('/'));
        if (!rest.includes('/')) expect(folderNameOf(shown!)).toBe(`models--${rest}`);
      }),
    );
  });

  it('refuse as an id whatever could lead elsewhere', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('..', '.', '', 'a', 'a\\b', 'a\0', '~')), (parts) => {
        const name = parts.join('/');
        if (!isRepositoryId(name)) return;
        const folder = path.resolve('/cache', folderNameOf(name));
        expect(path.dirname(folder)).toBe('/cache');
      }),
    );
  });
});

describe('a spec', () => {
  it('is its name and its revision again', () => {
    fc.assert(
      fc.property(id, commit, fc.nat(40), (name, revision, digits) => {
        const short = revision.slice(0, Math.max(1, digits));
        expect(splitSpec(`${name}@${short}`)).toEqual({ name, revision: short });
        expect(splitSpec(name)).toEqual({ name });
      }),
    );
  });

  it('of whatever text leads to a model of the cache, a workspace, or a typed refusal', async () => {
    const hub = temporaryFolder();
    const env = { HF_HUB_CACHE: hub, MLXK_WORKSPACE_HOME: path.join(hub, 'none') };
    for (const name of ['org/one', 'org/one-4bit', 'other/two', 'gpt2']) {
      mkdirSync(path.join(hub, folderNameOf(name), 'snapshots', 'a'.repeat(40)), {
        recursive: true,
      });
    }
    const word = fc.oneof(
      fc.string(),
      fc.constantFrom('one', 'org/', 'two', '@', 'a', '..', '-4bit'),
    );
    const spec = fc.array(word, { maxLength: 4 }).map((words) => words.join(''));
    await fc.assert(
      fc.asyncProperty(spec, async (text) => {
        try {
          const found = await locate(text, env);
          if (found.kind === 'cache') {
            expect(path.dirname(found.model.folder)).toBe(hub);
            const { name } = splitSpec(text);
            expect(found.name.toLowerCase()).toContain(name.toLowerCase());
          } else {
            expect(text === 'builtin' || isExplicitPath(text)).toBe(true);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(MlxkError);
          expect(['model_not_found', 'ambiguous_match']).toContain((error as MlxkError).code);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('that is a full id finds that model among any others', async () => {
    await fc.assert(
      fc.asyncProperty(ids, async (names) => {
        const hub = temporaryFolder();
        for (const name of names) {
          mkdirSync(path.join(hub, folderNameOf(name), 'snapshots', 'b'.repeat(40)), {
            recursive: true,
          });
        }
        for (const name of names) {
          const found = await locate(name, { HF_HUB_CACHE: hub });
          expect(found).toMatchObject({
            kind: 'cache',
            name,
            snapshot: { revision: 'b'.repeat(40) },
          });
        }
        removeTemporaryFolders();
      }),
      { numRuns: 30 },
    );
  });
});
