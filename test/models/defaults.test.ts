/**
 * What a config leaves out: every field of every golden's config.json once deleted and once null, against what mlx-lm
 * then computes (tools/goldens/make_defaults.py). Where it refuses, a default of ours is no fault; where it runs, ours is
 * the family's own.
 */

import { readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { load, MlxkError } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import type { Config } from './altered-model.js';
import { type GoldenCase, goldenCases, ownGoldens } from './golden-cases.js';

/** Some scores of the vocabulary, evenly spread. */
type Scores = number[];
type Outcome = 'same' | Scores;
type Way = 'absent' | 'null' | 'one';

/**
 * What mlx-lm makes of a field left out, or of a single expert chosen, by the fields' dotted paths; it refuses those that
 * are not listed.
 */
type Defaults = Record<Way, Record<string, Outcome>>;

interface Exception {
  cases: RegExp;
  field: RegExp;
  ways: Way[];
  why: string;
}

/** Where mlx-lm runs and this does not, or otherwise, on purpose. */
const EXCEPTIONS: Exception[] = [
  {
    cases: /./,
    field: /(^|\.)intermediate_size$/,
    ways: ['null'],
    why: 'no layer of the case has that width; a model without one is still refused',
  },
  {
    cases: /^(deepseek_v3|deepseek_v32|dots1|glm4_moe_lite|kimi_k25|kimi_vl)$/,
    field: /(^|\.)topk_group$/,
    ways: ['absent'],
    why: 'the one group by default has fewer experts than these ask for',
  },
  {
    cases: /^(afmoe|bailing_moe_v3)$/,
    field: /^num_experts_per_tok$/,
    ways: ['absent'],
    why: 'the chosen groups have fewer experts than the default',
  },
  {
    cases: /^qwen3_5_moe$/,
    field: /^num_experts_per_tok$/,
    ways: ['absent'],
    why: 'its default of no expert at all is no model',
  },
  {
    cases: /^bailing_moe_linear$/,
    field: /^score_function$/,
    ways: ['absent', 'null'],
    why: 'leaves only equal scores to choose from, among which any order is right',
  },
  {
    cases: /^mistral3$/,
    field: /^text_config\.model_type$/,
    ways: ['null'],
    why: "it is Llama then, whose rope_parameters mlx-lm's reader does not know",
  },
  {
    cases: /^muse_glimmer$/,
    field: /^rope_theta$/,
    ways: ['null'],
    why: 'rotates by the default instead of not at all',
  },
];

const TOLERANCE = 1e-3; // of the largest score

const table = JSON.parse(readFileSync(path.join(ownGoldens, 'defaults.json'), 'utf8')) as Record<
  string,
  Defaults
>;

afterAll(removeTemporaryFolders);

/** Each field, how it is left out, and what mlx-lm makes of that. */
function* omissions(name: string): Generator<{ field: string; as: Way; expected: Outcome }> {
  for (const as of ['absent', 'null', 'one'] as const) {
    for (const [field, expected] of Object.entries(table[name]![as])) {
      const excepted = EXCEPTIONS.some(
        ({ cases, field: fields, ways }) =>
          cases.test(name) && fields.test(field) && ways.includes(as),
      );
      if (!excepted) yield { field, as, expected };
    }
  }
}

/** A folder with the weights of `good` and its config without that field. */
function without(good: string, field: string, as: Way): string {
  const folder = temporaryFolder();
  const config = JSON.parse(readFileSync(path.join(good, 'config.json'), 'utf8')) as Config;
  const above = field.split('.');
  const name = above.pop()!;
  const holder = above.reduce((object, key) => object[key] as Config, config);
  if (as === 'absent') Reflect.deleteProperty(holder, name);
  else holder[name] = as === 'null' ? null : 1;
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config));
  for (const file of readdirSync(good).filter((entry) => entry.startsWith('model'))) {
    symlinkSync(path.join(good, file), path.join(folder, file));
  }
  return folder;
}

async function scoresOf(folder: string, ids: number[]): Promise<Float32Array | MlxkError> {
  try {
    await using model = await load(folder);
    return await model.logits(ids);
  } catch (error) {
    if (error instanceof MlxkError) return error;
    throw error;
  }
}

/** What is wrong with an outcome, or nothing. */
function fault(
  outcome: Float32Array | MlxkError,
  expected: Outcome,
  plain: number[],
): string | undefined {
  if (outcome instanceof MlxkError) return `${outcome.code}: ${outcome.message}`;
  const largest = Math.max(...plain.map(Math.abs));
  const [actual, wanted] =
    expected === 'same' ? [[...outcome], plain] : [spread(outcome, expected.length), expected];
  const off = Math.max(...wanted.map((score, i) => Math.abs(score - actual[i]!))) / largest;
  return off <= TOLERANCE ? undefined : `scores are off by ${off.toPrecision(2)}`;
}

function spread(scores: Float32Array, count: number): Scores {
  const step = (scores.length - 1) / (count - 1);
  return Array.from({ length: count }, (_, i) => scores[Math.floor(i * step)]!);
}

describe('a field left out', () => {
  const cases = goldenCases(ownGoldens).filter(({ name }) => name in table);

  it('is asked of every case that the table knows', () => {
    expect(cases.map(({ name }) => name).sort()).toEqual(Object.keys(table).sort());
  });

  it.each(cases)('takes the default of $name', async ({ name, folder, golden }: GoldenCase) => {
    const run = golden.runs.at(-1)!;
    const ids = [...run.prompt, ...run.greedy];
    const faults: string[] = [];
    for (const { field, as, expected } of omissions(name)) {
      const outcome = await scoresOf(without(folder, field, as), ids);
      const found = fault(outcome, expected, run.last_logits);
      if (found !== undefined) faults.push(`${field} ${as}: ${found}`);
    }
    expect(faults).toEqual([]);
  });
});
