/** docs/models.md is what the architectures' files say, and names exactly what the addon runs. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import { addon } from '../../lib/binding.js';
import { run } from '../helpers/child.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const page = readFileSync(path.join(root, 'docs', 'models.md'), 'utf8');

/** The names in the first column of a section's table. */
function names(section: string): string[] {
  return [...section.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
  );
}

afterAll(removeTemporaryFolders);

describe('docs/models.md', () => {
  const [runs, leftOut] = page.split('## Left out');

  it('lists what runs', () => {
    expect(
      names(runs!)
        .filter((name) => name !== 'model_type')
        .sort(),
    ).toEqual(addon().modelTypes());
  });

  it('lists nothing that runs as left out', () => {
    const running = addon().modelTypes();
    expect(names(leftOut!).filter((name) => running.includes(name))).toEqual([]);
  });

  it('is up to date: node scripts/models-doc.mjs', async () => {
    const file = path.join(temporaryFolder(), 'models.md');
    const { code } = await run(process.execPath, [
      path.join(root, 'scripts', 'models-doc.mjs'),
      file,
    ]);
    expect(code).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe(page);
  });
});
