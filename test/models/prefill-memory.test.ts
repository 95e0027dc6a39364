/**
 * What memory a prompt is taken to need: it is refused before anything of it is computed where it would not fit, and
 * what it then takes is near what it was taken to need.
 */

import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import { type GenerateOptions, load, type MlxkError } from '../../lib/index.js';
import { runScript } from '../helpers/child.js';
import { smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

afterAll(removeTemporaryFolders);

const REFUSED = { code: 'insufficient_memory', reason: 'prefill_exceeds_budget' };
const small = smallModelFolder();

/** Ends with one token; a budget in bytes beside the weights. */
async function answer(
  folder: string,
  length: number,
  budget: number,
  { prefillStepSize, ...options }: GenerateOptions & { prefillStepSize?: number } = {},
): Promise<void> {
  const { weightBytes } = await weights(folder);
  await using model = await load(folder, { memoryLimit: weightBytes + budget, prefillStepSize });
  await model.generate({ tokens: prompt(length) }, { maxTokens: 1, ...options });
}

async function weights(folder: string): Promise<{ weightBytes: number }> {
  await using model = await load(folder);
  return model.info;
}

function prompt(length: number): number[] {
  return Array.from({ length }, (_, i) => 3 + (i % 50));
}

describe('a prompt that would not fit', () => {
  // Keys and values of 4000 tokens take 2 MiB: two layers, two heads of 16 numbers, four bytes.
  const length = 4000;

  it('is refused before it starts, though its beginning would fit', async () => {
    const done: number[] = [];
    const options = {
      prefillStepSize: 128,
      onPrefill: (progress: { processedTokens: number }) => done.push(progress.processedTokens),
    };
    await expect(answer(small, length, 2 ** 21, options)).rejects.toMatchObject(REFUSED);
    expect(done).toEqual([]);
    await answer(small, 128, 2 ** 21, options);
    expect(done).not.toEqual([]);
  });

  it('is told how much it needs, and that is enough', async () => {
    const refused = await answer(small, length, 2 ** 21, { prefillStepSize: 128 }).then(
      () => undefined,
      (error: unknown) => error as MlxkError,
    );
    const needed = Number(/needs about (\d+) bytes more/.exec(refused!.message)![1]);
    // Beside weights and prompt something small is in use.
    await answer(small, length, needed + 65_536, { prefillStepSize: 128 });
  });

  it('leaves the model to what fits', async () => {
    const { weightBytes } = await weights(small);
    await using model = await load(small, { memoryLimit: weightBytes + 2 ** 21 });
    const options = { maxTokens: 2 };
    const ended = await Promise.allSettled([
      model.generate({ tokens: prompt(length) }, options),
      model.generate({ tokens: prompt(5) }, options),
    ]);
    expect(ended.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  });
});

describe('what a prompt is taken to need', () => {
  const golden = (name: string): string =>
    path.join(fileURLToPath(new URL('../goldens', import.meta.url)), name);

  it.each([
    ['attention, chunk by chunk', small, 4000],
    ['experts', golden('qwen3_moe'), 400],
    ['a recurrence', golden('mamba2'), 400],
    ['latent attention', golden('deepseek_v3'), 400],
  ])('is at least what it takes, and not many times that: %s', async (_, folder, length) => {
    const script = `const model = await load(${JSON.stringify(folder)});
      const { timings } = await model.generate({ tokens: ${JSON.stringify(prompt(length))} }, { maxTokens: 1 });
      console.log(timings.peakMemoryBytes - model.info.weightBytes);`;
    const { stdout } = await runScript(script);
    const taken = Number(stdout);
    expect(taken).toBeGreaterThan(2 ** 20);
    await expect(answer(folder, length, Math.floor(0.9 * taken))).rejects.toMatchObject(REFUSED);
    await answer(folder, length, 8 * taken);
  });
});
