/**
 * Packed keys and values: when they are, for whom, and what is refused. Their numbers are compared with mlx-lm's in
 * goldens.test.ts.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';

import { describe, expect, it } from 'vitest';

import { load, type LoadOptions, MlxkError, type Model } from '../../lib/index.js';
import { type Golden, ownGoldens } from './golden-cases.js';

const PACKED = { kvBits: 4, kvGroupSize: 32, quantizedKvStart: 0 };

function folderOf(name: string): string {
  return path.join(ownGoldens, name);
}

const folder = folderOf('llama-kv-4bit');
const golden = JSON.parse(readFileSync(path.join(folder, 'golden.json'), 'utf8')) as Golden;
const PROMPT = golden.runs.at(-1)!.prompt;

/** Largest difference as a part of the largest score. */
function distance(a: Float32Array, b: Float32Array): number {
  const largest = (x: Float32Array): number =>
    x.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return largest(a.map((value, i) => value - b[i]!)) / largest(b);
}

async function scores(options: LoadOptions, from = folder): Promise<Float32Array> {
  await using model = await load(from, options);
  return await model.logits(PROMPT);
}

async function refusal(work: Promise<unknown>): Promise<MlxkError> {
  const outcome = await work.catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(MlxkError);
  return outcome as MlxkError;
}

async function tokens(model: Model, prompt: number[], options: object): Promise<readonly number[]> {
  return (await model.generate({ tokens: prompt }, { maxTokens: 16, ...options })).tokens;
}

describe('packed keys and values', () => {
  it('come nearer to plain ones with every bit', async () => {
    const plain = await scores({});
    const errors: number[] = [];
    for (const kvBits of [2, 3, 4, 5, 6, 8]) {
      errors.push(distance(await scores({ ...PACKED, kvBits }), plain));
    }
    expect(errors.every((error) => error > 1e-4)).toBe(true);
    expect(errors).toEqual(errors.toSorted((a, b) => b - a));
    expect(errors.at(-1)).toBeLessThan(0.03);
  });

  it('begin where they are told to, whatever the chunks', async () => {
    const at = async (quantizedKvStart: number, prefillStepSize?: number): Promise<Float32Array> =>
      await scores({ ...PACKED, quantizedKvStart, prefillStepSize });
    const plain = await scores({});
    expect(await at(PROMPT.length)).toEqual(plain);
    const late = await at(20);
    expect(distance(late, plain)).toBeGreaterThan(1e-3);
    expect(distance(late, await at(0))).toBeGreaterThan(1e-3);
    for (const step of [1, 3, 20, 21])
      expect(distance(await at(20, step), late)).toBeLessThan(1e-5);
  });

  it('begin in the middle of an answer', async () => {
    await using model = await load(folder);
    const options = { ...PACKED, quantizedKvStart: PROMPT.length + 4, logprobs: true };
    const answer = await model.generate({ tokens: PROMPT }, { ...options, maxTokens: 12 });
    await using other = await load(folder, { ...PACKED, quantizedKvStart: PROMPT.length + 4 });
    for (const [step, { token, logprob }] of answer.logprobs!.entries()) {
      const logits = await other.logits([...PROMPT, ...answer.tokens.slice(0, step)]);
      const mass = logits.reduce((sum, score) => sum + Math.exp(score), 0);
      expect(Math.abs(logits[token]! - Math.log(mass) - logprob), `step ${step}`).toBeLessThan(
        1e-3,
      );
    }
  });

  it('are chosen call by call, beside calls without', async () => {
    await using model = await load(folder);
    await using packed = await load(folder, PACKED);
    const plain = await tokens(model, PROMPT, {});
    const expected = await tokens(packed, PROMPT, {});
    expect(expected).not.toEqual(plain);
    const mixed = await Promise.all(
      [{}, PACKED, { kvBits: null }, PACKED].map(
        async (options) => await tokens(model, PROMPT, options),
      ),
    );
    expect(mixed).toEqual([plain, expected, plain, expected]);
    expect(await tokens(packed, PROMPT, { kvBits: null })).toEqual(plain);
    expect(await tokens(packed, PROMPT, { quantizedKvStart: 5000 })).toEqual(plain);
  });

  it('let a longer answer fit the same memory', async () => {
    const bytes = async (): Promise<number> => {
      await using model = await load(folder);
      return model.info.weightBytes;
    };
    // 256 positions of plain keys and values take 256 KiB: two layers, two heads, 32 numbers of four bytes.
    const memoryLimit = (await bytes()) + 640 * 1024;
    const answer = async (options: object): Promise<number> => {
      await using model = await load(folder, { memoryLimit });
      const { usage, finishReason } = await model.generate(
        { tokens: [5] },
        { maxTokens: 500, ...options },
      );
      expect(finishReason).toBe('length');
      return usage.completionTokens;
    };
    expect(await answer({})).toBeLessThan(500);
    expect(await answer(PACKED)).toBe(500);
  });
});

describe('keys and values that cannot be packed', () => {
  it('end the load: the group does not divide a head', async () => {
    const error = await refusal(load(folder, { kvBits: 8 }));
    expect(error).toMatchObject({ code: 'validation_error', reason: 'kv_group_size' });
    expect(error.message).toMatch(/kvGroupSize .* 64 does not divide 32/);
  });

  it.each(['rwkv7', 'mamba2', 'recurrent_gemma', 'deepseek_v3'])(
    'end the load: %s keeps none of the whole context',
    async (name) => {
      const error = await refusal(load(folderOf(name), PACKED));
      expect(error).toMatchObject({ code: 'validation_error' });
      expect(error.reason).toBe('kv_quantization_unsupported');
      expect(error.message).toContain('kvBits');
    },
  );

  it('end the call, and no other', async () => {
    await using model = await load(folder);
    const plain = await tokens(model, PROMPT, {});
    const [error, beside] = await Promise.all([
      refusal(Promise.resolve(model.generate({ tokens: PROMPT }, { kvBits: 8, kvGroupSize: 128 }))),
      tokens(model, PROMPT, {}),
    ]);
    expect(error.message).toContain('128 does not divide 32');
    expect(beside).toEqual(plain);
  });
});
