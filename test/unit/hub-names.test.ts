import path from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { folderNameOf, idOf } from '../../lib/cache/layout.js';
import { problemOfPlace } from '../../lib/hub/client.js';
import { checkFileNames, checkRepositoryId, checkRevision } from '../../lib/hub/names.js';
import { matchesAny } from '../../lib/hub/patterns.js';

function accepts(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}

/** Strings made of what paths and tricks are made of. */
const tricky = fc
  .array(
    fc.constantFrom(
      ...['..', '.', '/', '\\', '\0', '\n', ' ', ':', 'C:', '~', '%2e', '--', '-', 'a', 'B', '0'],
      ...['con', 'NUL', 'é', 'e\u0301', '\u202e', '\ud800', '@', '?', '#', '_', '.json'],
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

describe('a file name that is accepted', () => {
  it('stays below its folder, on every system, and is one line', () => {
    fc.assert(
      fc.property(tricky, (name) => {
        fc.pre(accepts(() => checkFileNames('org/model', [name])));
        for (const system of [path.posix, path.win32]) {
          const root = system === path.win32 ? 'D:\\snapshots\\x' : '/snapshots/x';
          expect(system.resolve(root, name).startsWith(root + system.sep)).toBe(true);
        }
        // eslint-disable-next-line no-control-regex
        expect(name).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
      }),
      { numRuns: 3000 },
    );
  });

  it.each([
    'a',
    'a/b/c.json',
    '.gitattributes',
    'model-00001-of-00002.safetensors',
    'ünï/çödé.txt',
    'a b.txt',
    'console.log',
    '...a',
  ])('may be %j', (name) => {
    expect(accepts(() => checkFileNames('org/model', [name]))).toBe(true);
  });
});

describe('a repository id that is accepted', () => {
  it('has a folder name of one part, from which it is told again', () => {
    fc.assert(
      fc.property(tricky, (id) => {
        fc.pre(accepts(() => checkRepositoryId(id)));
        const folder = folderNameOf(id);
        expect(folder).not.toMatch(/[/\\]|\.\./);
        expect(idOf(folder)).toBe(id);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('a revision that is accepted', () => {
  it('stays below refs', () => {
    fc.assert(
      fc.property(tricky, (revision) => {
        fc.pre(accepts(() => checkRevision(revision)));
        expect(path.posix.resolve('/refs', revision).startsWith('/refs/')).toBe(true);
        expect(new URL(`https://hub/x/${revision}/y`).pathname).toBe(`/x/${revision}/y`);
      }),
      { numRuns: 3000 },
    );
  });

  it.each(['main', 'v1.0', 'refs/pr/1', 'feature/x_y', 'a'.repeat(40)])('may be %j', (revision) => {
    expect(accepts(() => checkRevision(revision))).toBe(true);
  });
});

describe('a pattern', () => {
  it.each<[string, string, boolean]>([
    ['*.json', 'config.json', true],
    ['*.json', 'a/b/config.json', true],
    ['*.json', 'config.jsonl', false],
    ['a/', 'a/b/c', true],
    ['a/', 'a', false],
    ['model-0000[12]-*', 'model-00002-of-00003', true],
    ['model-0000[!12]-*', 'model-00002-of-00003', false],
    ['[a-c]?', 'bx', true],
    ['[a-c]?', 'dx', false],
    ['a.b', 'axb', false],
    ['[', '[', true],
    ['[]]', ']', true],
    ['(a|b)+', 'a', false],
    ['*', 'a\nb', true],
  ])('%j against %j: %j', (pattern, name, fits) => {
    expect(matchesAny(name, [pattern])).toBe(fits);
  });

  it('is decided in time, whatever it is', () => {
    const started = performance.now();
    matchesAny('a'.repeat(2000), [`${'*a'.repeat(100)}b`]);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('a redirect', () => {
  const hub = new URL('https://huggingface.co');
  it.each<[string, boolean]>([
    ['https://huggingface.co/x', true],
    ['https://cdn-lfs.hf.co/x', true],
    ['http://cdn-lfs.hf.co/x', false],
    ['http://huggingface.co/x', false],
    ['https://127.0.0.1/x', false],
    ['https://[::1]/x', false],
    ['https://169.254.169.254/latest', false],
    ['https://2130706433/x', false],
    ['https://0x7f.1/x', false],
    ['https://localhost/x', false],
    ['https://localhost./x', false],
    ['https://printer.local/x', false],
    ['https://intranet/x', false],
    ['https://user:secret@cdn.hf.co/x', false],
    ['file:///etc/passwd', false],
    ['ftp://cdn.hf.co/x', false],
    ['data:text/plain,x', false],
  ])('from a public hub to %s: %j', (place, allowed) => {
    expect(problemOfPlace(new URL(place), hub) === undefined).toBe(allowed);
  });

  it.each<[string, boolean]>([
    ['http://127.0.0.1:9000/x', true],
    ['https://cdn.hf.co/x', true],
    ['file:///etc/passwd', false],
  ])('from a hub on this machine to %s: %j', (place, allowed) => {
    expect(problemOfPlace(new URL(place), new URL('http://127.0.0.1:8000')) === undefined).toBe(
      allowed,
    );
  });
});
