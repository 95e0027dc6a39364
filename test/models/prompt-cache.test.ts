/**
 * Going on from what earlier calls have computed: the same answers, with fewer prompt tokens computed, for every kind of
 * state that layers keep.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type GenerateOptions, type GenerateResult, load, type Model } from '../../lib/index.js';
import { type Golden, ownGoldens } from './golden-cases.js';

/** Cases by what their layers keep. `trims`: whether a beginning can be cut from it, however much followed. */
const KINDS = [
  { kind: 'full', name: 'qwen3', trims: true },
  { kind: 'latent', name: 'deepseek_v3', trims: true },
  { kind: 'latent with an indexer', name: 'glm_moe_dsa', trims: true },
  { kind: 'shared between layers', name: 'gemma3n', trims: true },
  { kind: 'sliding', name: 'gpt_oss', trims: true },
  { kind: 'chunked', name: 'llama4_text', trims: true },
  { kind: 'recurrent', name: 'rwkv7', trims: false },
  { kind: 'hybrid', name: 'qwen3_next', trims: false },
  { kind: 'convolutions', name: 'lfm2', trims: false },
  { kind: 'packed', name: 'llama-kv-4bit', trims: true },
] as const;

function open(name: string): Promise<Model> {
  return load(path.join(ownGoldens, name), name.includes('-kv-') ? PACKED : {});
}

const PACKED = { kvBits: 4, kvGroupSize: 32, quantizedKvStart: 0 };
const KEPT = { promptCache: true };

function promptOf(name: string): number[] {
  const text = readFileSync(path.join(ownGoldens, name, 'golden.json'), 'utf8');
  return (JSON.parse(text) as Golden).runs.at(-1)!.prompt;
}

async function answer(
  model: Model,
  tokens: readonly number[],
  options: GenerateOptions = {},
): Promise<GenerateResult> {
  return await model.generate({ tokens: [...tokens] }, { maxTokens: 12, ...options });
}

describe.each(KINDS)('a $kind state ($name)', ({ name, trims }) => {
  const prompt = promptOf(name);

  it('goes on where an answer ended', async () => {
    await using model = await open(name);
    const first = await answer(model, prompt, KEPT);
    expect(first.usage.cachedTokens).toBe(0);
    const next = [...prompt, ...first.tokens, 7, 11, 13];
    const expected = await answer(model, next);
    expect(expected.usage.cachedTokens).toBe(0);
    const actual = await answer(model, next, KEPT);
    expect(actual.tokens).toEqual(expected.tokens);
    // The last token of an answer is never computed with.
    expect(actual.usage.cachedTokens).toBe(prompt.length + first.tokens.length - 1);
    expect(actual.usage.promptTokens).toBe(next.length);
  });

  it('is cut back to what prompts share, or computed anew', async () => {
    await using model = await open(name);
    await answer(model, prompt, KEPT);
    const other = [...prompt.slice(0, -3), 7, 11, 13, 17, 19];
    const expected = await answer(model, other);
    const actual = await answer(model, other, KEPT);
    expect(actual.tokens).toEqual(expected.tokens);
    expect(actual.usage.cachedTokens).toBe(trims ? prompt.length - 3 : 0);
    const again = await answer(model, prompt, KEPT);
    expect(again.tokens).toEqual((await answer(model, prompt)).tokens);
    expect(again.usage.cachedTokens).toBe(trims ? prompt.length - 1 : 0);
  });

  it('serves several prompts at once, each as if it were alone', async () => {
    await using model = await open(name);
    await answer(model, prompt, KEPT);
    const prompts = [12, 25, 38].map((at) => [...prompt.slice(0, at), at, 3, 5]);
    const expected = [];
    for (const each of prompts) expected.push((await answer(model, each)).tokens);
    const together = await Promise.all(
      prompts.map(async (each, i) => await answer(model, each, i === 1 ? {} : KEPT)),
    );
    expect(together.map(({ tokens }) => tokens)).toEqual(expected);
    expect(together.map(({ usage }) => usage.cachedTokens)).toEqual(
      trims ? [12, 0, 38] : [0, 0, 0],
    );
  });

  it('is kept of an answer that was aborted', async () => {
    await using model = await open(name);
    const whole = await answer(model, prompt, { maxTokens: 130 });
    const aborted = model.generate({ tokens: prompt }, { ...KEPT, maxTokens: 400 });
    for await (const { tokens } of aborted) if (tokens.length > 0) break;
    const { finishReason } = await aborted;
    expect(finishReason).toBe('abort');
    // The engine runs ahead of a reader by less than this.
    const next = [...prompt, ...whole.tokens.slice(0, 120)];
    const actual = await answer(model, next, { ...KEPT, maxTokens: 5 });
    expect(actual.tokens).toEqual(whole.tokens.slice(120, 125));
    expect(actual.usage.cachedTokens).toBeGreaterThanOrEqual(prompt.length);
    expect(actual.usage.cachedTokens).toBeLessThan(prompt.length + 120);
  });
});

describe('a prompt cache', () => {
  const prompt = promptOf('llama-lora');

  it('is used and filled by calls that ask for it alone', async () => {
    await using model = await open('qwen3');
    await answer(model, prompt);
    expect((await answer(model, prompt, KEPT)).usage.cachedTokens).toBe(0);
    expect((await answer(model, prompt)).usage.cachedTokens).toBe(0);
  });

  it('leaves the scores after a prompt that is known whole to be computed', async () => {
    await using model = await open('qwen3');
    const { tokens } = await answer(model, [5], { ...KEPT, maxTokens: 1 });
    const again = await answer(model, [5], { ...KEPT, maxTokens: 1 });
    expect(again.tokens).toEqual(tokens);
    expect(again.usage.cachedTokens).toBe(0);
  });

  it('keeps the part of a prompt that was computed before an abort', async () => {
    await using model = await load(path.join(ownGoldens, 'qwen3'), { prefillStepSize: 8 });
    const expected = await answer(model, prompt);
    const aborting = new AbortController();
    const options = {
      ...KEPT,
      signal: aborting.signal,
      onPrefill: ({ processedTokens }: { processedTokens: number }) => {
        if (processedTokens >= 16) aborting.abort();
      },
    };
    await expect(answer(model, prompt, options)).rejects.toMatchObject({ name: 'AbortError' });
    const actual = await answer(model, prompt, KEPT);
    expect(actual.tokens).toEqual(expected.tokens);
    expect(actual.usage.cachedTokens).toBeGreaterThanOrEqual(16);
    expect(actual.usage.cachedTokens).toBeLessThan(prompt.length);
  });

  it.each(['qwen3', 'gpt_oss', 'lfm2', 'llama-kv-4bit'])(
    'changes no answer of %s, whatever was asked before',
    async (name) => {
      await using model = await open(name);
      const turn = fc.record({
        shared: fc.nat(60),
        added: fc.array(fc.integer({ min: 3, max: 120 }), { minLength: 1, maxLength: 12 }),
        maxTokens: fc.integer({ min: 1, max: 12 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(turn, { minLength: 2, maxLength: 5 }), async (turns) => {
          let text = prompt;
          for (const { shared, added, maxTokens } of turns) {
            text = [...text.slice(0, shared), ...added];
            const kept = await answer(model, text, { ...KEPT, maxTokens });
            const { tokens } = await answer(model, text, { maxTokens });
            expect(kept.tokens).toEqual(tokens);
            text = [...text, ...tokens];
          }
        }),
        { numRuns: 12, seed: 7 },
      );
    },
  );

  it('tells adapters and packed keys and values apart', async () => {
    const folder = path.join(ownGoldens, 'llama-lora');
    await using model = await load(folder);
    const adapter = path.join(folder, 'adapters');
    for (const options of [{}, { adapter }]) {
      const expected = await answer(model, prompt, options);
      const first = await answer(model, prompt, { ...KEPT, ...options });
      expect(first.usage.cachedTokens).toBe(0);
      const second = await answer(model, prompt, { ...KEPT, ...options });
      expect(second.usage.cachedTokens).toBe(prompt.length - 1);
      expect([first.tokens, second.tokens]).toEqual([expected.tokens, expected.tokens]);
    }
    await using packing = await open('llama-kv-4bit');
    await answer(packing, prompt, KEPT);
    expect((await answer(packing, prompt, { ...KEPT, kvBits: null })).usage.cachedTokens).toBe(0);
    expect((await answer(packing, prompt, KEPT)).usage.cachedTokens).toBe(prompt.length - 1);
  });

  it('does not go back before the place where packing began', async () => {
    await using model = await open('llama-kv-4bit');
    const late = { ...KEPT, quantizedKvStart: 30 };
    await answer(model, prompt, late);
    for (const [shared, cached] of [
      [35, 35],
      [30, 30],
      [29, 0],
    ] as const) {
      const other = [...prompt.slice(0, shared), 3, 5, 7, 11];
      const actual = await answer(model, other, late);
      expect(actual.usage.cachedTokens).toBe(cached);
      expect(actual.tokens).toEqual((await answer(model, other, { quantizedKvStart: 30 })).tokens);
    }
  });

  it('gives way to what runs and to models that are loaded', async () => {
    const folder = path.join(ownGoldens, 'qwen3');
    const measure = await load(folder);
    const { weightBytes } = measure.info;
    await measure.dispose();
    // Keys and values of 256 positions take 256 KiB; ten prompts keep more than the limit leaves beside the weights.
    const memoryLimit = weightBytes + 1800 * 1024;
    await using model = await load(folder, { memoryLimit });
    for (let i = 0; i < 10; ++i) {
      const { usage } = await answer(model, [20 + i, 3, 5], { ...KEPT, maxTokens: 40 });
      expect(usage.completionTokens).toBe(40);
    }
    const kept = await answer(model, [29, 3, 5], KEPT);
    expect(kept.usage.cachedTokens).toBe(2);
    await using other = await load(folder, { memoryLimit: 2 * weightBytes + 1100 * 1024 });
    expect((await answer(other, prompt)).tokens).toHaveLength(12);
  });
});
