/**
 * Every architecture against the reference, in one runner without a word about any of them: tiny models with random
 * weights, and what mlx-lm computes on them.
 */

import path from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { addon } from '../../lib/binding.js';
import { load, type Model } from '../../lib/index.js';
import {
  type Golden,
  type GoldenCase,
  type GoldenRun,
  goldenCases,
  goldenFolders,
  ownGoldens,
} from './golden-cases.js';

/** How far an answer may be from the reference. */
interface Tolerance {
  /** Of a score, as a part of the largest absolute score. */
  score: number;
  /** Of a natural-log probability. */
  logprob: number;
  /** Below this distance of best and second-best logprob a step may go either way. */
  margin: number;
}

const FLOAT32: Tolerance = { score: 1e-3, logprob: 2e-3, margin: 2e-3 };
/** Of 16-bit weights, whose scores are measured against those in float32. */
const HALF_SCORE = 3e-2;
/** Of packed keys and values, whose codes may turn over with the last digit of a float32. */
const PACKED_KV: Tolerance = { score: 3e-3, logprob: 6e-3, margin: 6e-3 };

/** Where the reference in 16 bits is itself further off, as with quantized bfloat16 on the CPU, so may this be. */
function toleranceOf({ weights, kv, own_error = 0, runs }: Golden): Tolerance {
  if (weights === undefined || weights === 'float32') return kv == null ? FLOAT32 : PACKED_KV;
  const score = Math.max(HALF_SCORE, 1.2 * own_error);
  const logprob = score * Math.min(...runs.map((run) => largest(run.first_logits)));
  return { score, logprob, margin: 2 * logprob };
}

/** Divides none of the prompt lengths, and leaves a chunk of one token of the longest. */
const ODD_STEP = 5;

const supported = addon().modelTypes();

interface Answer {
  tokens: readonly number[];
  logprobs: number[];
}

async function answer(model: Model, prompt: number[], maxTokens: number): Promise<Answer> {
  const result = await model.generate({ tokens: prompt }, { maxTokens, logprobs: true });
  expect(result.finishReason).toBe('length');
  expect(result.tokens).toHaveLength(maxTokens);
  expect(result.usage.promptTokens).toBe(prompt.length);
  expect(result.usage.completionTokens).toBe(maxTokens);
  expect(result.logprobs!.map(({ token }) => token)).toEqual(result.tokens);
  return { tokens: result.tokens, logprobs: result.logprobs!.map(({ logprob }) => logprob) };
}

function expectScores(
  actual: Float32Array,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
): void {
  expect(actual).toHaveLength(expected.length);
  expect(actual.every(Number.isFinite)).toBe(true);
  const distance = largest(actual.map((score, i) => score - expected[i]!));
  expect(distance / largest(expected)).toBeLessThanOrEqual(tolerance.score);
}

function largest(scores: ArrayLike<number>): number {
  return Array.from(scores).reduce((most, score) => Math.max(most, Math.abs(score)), 0);
}

/** Ids and logprobs agree up to a step that is a tie in the reference; from there on the answers may part. */
function expectGreedy(actual: Answer, run: GoldenRun, tolerance: Tolerance): void {
  const tie = run.margins.findIndex((margin) => margin < tolerance.margin);
  const compared = tie === -1 ? run.greedy.length : tie;
  expect(actual.tokens.slice(0, compared)).toEqual(run.greedy.slice(0, compared));
  expectLogprobs(actual.logprobs.slice(0, compared), run.logprobs.slice(0, compared), tolerance);
}

/** Two answers of this engine agree; they may part where both took a token of the same probability. */
function expectSame(actual: Answer, expected: Answer, tolerance: Tolerance): void {
  const parting = actual.tokens.findIndex((token, step) => token !== expected.tokens[step]);
  const compared = parting === -1 ? expected.tokens.length : parting + 1;
  expectLogprobs(
    actual.logprobs.slice(0, compared),
    expected.logprobs.slice(0, compared),
    tolerance,
  );
}

function expectLogprobs(actual: number[], expected: number[], tolerance: Tolerance): void {
  expect(actual).toHaveLength(expected.length);
  for (const [step, logprob] of actual.entries()) {
    expect(Math.abs(logprob - expected[step]!), `logprob of step ${step}`).toBeLessThanOrEqual(
      tolerance.logprob,
    );
  }
}

function logprobOf(token: number, scores: Float32Array): number {
  const best = Math.max(...scores);
  const mass = scores.reduce((sum, score) => sum + Math.exp(score - best), 0);
  return scores[token]! - best - Math.log(mass);
}

function describeSupported({ folder, golden, adapter }: GoldenCase): void {
  const tolerance = toleranceOf(golden);
  const { kv } = golden;
  const options = {
    adapter,
    ...(kv && { kvBits: kv.bits, kvGroupSize: kv.group_size, quantizedKvStart: 0 }),
  };
  const longest = golden.runs.reduce((a, b) => (a.prompt.length > b.prompt.length ? a : b));
  let model: Model;
  let stepping: Model;

  beforeAll(async () => {
    model = await load(folder, options);
    stepping = await load(folder, { ...options, prefillStepSize: ODD_STEP });
  });
  afterAll(async () => {
    await model.dispose();
    await stepping.dispose();
  });

  it('gives the scores of the reference before and after its answer', async () => {
    for (const run of golden.runs) {
      expectScores(await model.logits(run.prompt), run.first_logits, tolerance);
      expectScores(await model.logits([...run.prompt, ...run.greedy]), run.last_logits, tolerance);
    }
  });

  it('gives the greedy ids and logprobs of the reference', async () => {
    for (const run of golden.runs) {
      expectGreedy(await answer(model, run.prompt, run.greedy.length), run, tolerance);
    }
  });

  it('sees step by step what it sees in one piece', async () => {
    const { tokens, logprobs } = await answer(model, longest.prompt, longest.greedy.length);
    for (const [step, token] of tokens.entries()) {
      const scores = await model.logits([...longest.prompt, ...tokens.slice(0, step)]);
      expectLogprobs([logprobs[step]!], [logprobOf(token, scores)], tolerance);
    }
  });

  it('answers prompts of four lengths at once as one after the other', async () => {
    const prompts = [...golden.runs.map((run) => run.prompt), longest.prompt.slice(0, 17)];
    // Of different lengths too, so that rows leave the batch while others go on.
    const requests = prompts.map((prompt, i) => ({ prompt, length: 8 + 5 * i }));
    const single: Answer[] = [];
    for (const { prompt, length } of requests) single.push(await answer(model, prompt, length));
    const together = await Promise.all(
      requests.map(({ prompt, length }) => answer(model, prompt, length)),
    );
    together.forEach((actual, i) => expectSame(actual, single[i]!, tolerance));
  });

  it('reads a prompt in chunks as in one piece', async () => {
    expectScores(
      await stepping.logits(longest.prompt),
      await model.logits(longest.prompt),
      tolerance,
    );
    const whole = await answer(model, longest.prompt, longest.greedy.length);
    const chunked = await answer(stepping, longest.prompt, longest.greedy.length);
    expectSame(chunked, whole, tolerance);
    expectGreedy(chunked, longest, tolerance);
  });

  it('remembers nothing of what it answered before', async () => {
    const first = await answer(model, longest.prompt, 6);
    expect(await answer(model, longest.prompt, 6)).toEqual(first);
  });

  for (const { prompt, seed, temperature, top_p, top_k, min_p, tokens } of golden.samples ?? []) {
    it(`draws the ids of the reference: ${JSON.stringify({ seed, temperature, top_p, top_k, min_p })}`, async () => {
      const sampled = await model.generate(
        { tokens: prompt },
        { maxTokens: tokens.length, seed, temperature, topP: top_p, topK: top_k, minP: min_p },
      );
      expect(sampled.tokens).toEqual(tokens);
    });
  }
}

function describeUnsupported({ folder, golden }: GoldenCase): void {
  it(`refuses model_type ${golden.model_type} by name and lists what there is`, async () => {
    const refusal = await load(folder).then(
      async (model) => await model.dispose(),
      (error: unknown) => error,
    );
    expect(refusal).toMatchObject({ name: 'MlxkError', code: 'not_implemented' });
    const { message } = refusal as Error;
    for (const modelType of [golden.model_type, ...supported]) expect(message).toContain(modelType);
  });
}

for (const folder of goldenFolders()) {
  for (const golden of goldenCases(folder)) {
    describe(`${path.basename(path.dirname(folder))}/${path.basename(folder)}/${golden.name}`, () => {
      if (supported.includes(golden.golden.model_type)) describeSupported(golden);
      else describeUnsupported(golden);
    });
  }
}

describe('the goldens of the repository', () => {
  it('cover every supported model_type', () => {
    const covered = goldenCases(ownGoldens).map(({ golden }) => golden.model_type);
    expect([...new Set(covered)].sort()).toEqual(supported);
  });
});
