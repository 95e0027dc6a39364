/**
 * Configurations that were changed at random, beside sound weights: each either loads and answers or is refused with a
 * typed error; none ends the process, hangs, or comes to an error that only MLX noticed.
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

import { load, MlxkError } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Config = Record<string, Json>;

const MUTATIONS = Number(process.env.MLXK_TEST_MUTATIONS || 1000);
const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];

const goldens = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', 'goldens');
const cases = readdirSync(goldens)
  .map((name) => path.join(goldens, name))
  .filter((folder) => existsSync(path.join(folder, 'model.safetensors')));

afterAll(removeTemporaryFolders);

const hostile: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(
    0,
    -1,
    1,
    2,
    3,
    7,
    0.5,
    -0.0,
    1e-40,
    1e38,
    1e308,
    2 ** 31,
    2 ** 40,
    2 ** 53,
    -(2 ** 31),
  ),
  fc.constantFrom<Json>(null, true, false, '', 'nobody', [], {}, [0], [-1, 2 ** 40], [[]], {
    rope_type: 'nobody',
  }),
  fc.integer({ min: -4, max: 5000 }),
);

/** One change: at which of the config's fields, in what way. */
const change = fc.record({
  field: fc.nat(),
  way: fc.constantFrom(
    'replace',
    'replace',
    'replace',
    'delete',
    'swap',
    'shorten',
    'lengthen',
    'scale',
  ),
  value: hostile,
  other: fc.nat(),
});

/** Every object or list of the config with its keys, outermost first. */
function places(config: Json, found: [Config, string][] = []): [Config, string][] {
  if (typeof config !== 'object' || config === null) return found;
  for (const key of Object.keys(config)) {
    found.push([config as Config, key]);
    places((config as Config)[key]!, found);
  }
  return found;
}

function apply(
  config: Config,
  { field, way, value, other }: { field: number; way: string; value: Json; other: number },
) {
  const all = places(config).filter(([, key]) => key !== 'model_type');
  if (all.length === 0) return; // a change before this one deleted all there was
  const [holder, key] = all[field % all.length]!;
  const old = holder[key]!;
  if (way === 'delete') Reflect.deleteProperty(holder, key);
  else if (way === 'swap') {
    const [from, name] = all[other % all.length]!;
    holder[key] = structuredClone(from[name] ?? null);
  } else if (way === 'shorten' && Array.isArray(old)) holder[key] = old.slice(1);
  else if (way === 'lengthen' && Array.isArray(old)) holder[key] = [...old, ...old];
  else if (way === 'scale' && typeof old === 'number') holder[key] = old * (other % 5);
  else holder[key] = structuredClone(value);
}

describe('a config changed at random', () => {
  const folder = temporaryFolder();

  it(`loads or is refused, ${MUTATIONS} times`, { timeout: 900_000 }, async () => {
    let round = 0;
    const ends = { loaded: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.array(change, { minLength: 1, maxLength: 3 }),
        async (which, changes) => {
          const good = cases[which % cases.length]!;
          const config = JSON.parse(readFileSync(path.join(good, 'config.json'), 'utf8')) as Config;
          for (const one of changes) apply(config, one);
          const bad = path.join(folder, String(round++));
          mkdirSync(bad);
          writeFileSync(path.join(bad, 'config.json'), JSON.stringify(config));
          symlinkSync(path.join(good, 'model.safetensors'), path.join(bad, 'model.safetensors'));
          try {
            await using model = await load(bad);
            await model.generate({ tokens: PROMPT }, { maxTokens: 2 });
            ends.loaded++;
          } catch (error) {
            expect(error).toBeInstanceOf(MlxkError);
            const { code, detail } = error as MlxkError;
            // Numbers that a lie made infinite are the only thing that may show as late as in a generation.
            if (detail.reason !== 'non_finite_scores')
              expect([code, (error as Error).message]).not.toContain('internal_error');
            ends.refused++;
          }
        },
      ),
      { numRuns: MUTATIONS, seed: Number(process.env.MLXK_TEST_SEED || 20261121) },
    );
    expect(ends.loaded).toBeGreaterThan(MUTATIONS / 20);
    expect(ends.refused).toBeGreaterThan(MUTATIONS / 4);
  });
});
