import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

const lib = fileURLToPath(new URL('../../lib/', import.meta.url));

/** Every import of one file of `lib/` by another, as `from -> to`, both relative to `lib/`. */
const imports = readdirSync(lib, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
  .flatMap((file) =>
    [...readFileSync(path.join(lib, file), 'utf8').matchAll(/from '(\.[^']+)\.js'/g)].map(
      (match) => ({
        from: file,
        to: path.join(path.dirname(file), match[1]!),
      }),
    ),
  );

function edges(from: RegExp, to: RegExp): string[] {
  return imports
    .filter((edge) => from.test(edge.from) && to.test(edge.to))
    .map((edge) => `${edge.from} -> ${edge.to}`);
}

describe('dependencies point one way', () => {
  it('and are found by this test', () => {
    expect(edges(/^index\.ts$/, /^model$/)).not.toEqual([]);
  });

  it('nothing outside the command line imports from it', () => {
    expect(edges(/^(?!cli\/)/, /^cli\//)).toEqual([]);
  });

  it('the cache knows no model and no addon', () => {
    expect(edges(/^cache\//, /^(model|load|generation|binding|native|tokenizer)$/)).toEqual([]);
  });

  it('the hub knows no cache', () => {
    expect(edges(/^hub\//, /^(?!hub\/|errors$|home$|package-info$|visible$)/)).toEqual([]);
  });

  it('errors, stop rules and streams depend on nothing', () => {
    expect(edges(/^(errors|stop|stream|suggest)\.ts$/, /./)).toEqual([]);
  });

  it('the command line reaches the addon only through the library', () => {
    expect(edges(/^cli\//, /^(binding|native|model|load|generation)$/)).toEqual([]);
  });
});
