/**
 * What decides how the CPU computes: environment variables, which a process reads once, and the option `threads`.
 */

import { afterAll, describe, expect, it } from 'vitest';

import { runScript } from '../helpers/child.js';
import { smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const FOLDER = JSON.stringify(smallModelFolder());
afterAll(removeTemporaryFolders);

const ANSWER = `
  const { tokens } = await model.generate({ tokens: [5, 6, 7, 8, 9, 10, 11, 12, 13, 14] }, { maxTokens: 24 });
  console.log(JSON.stringify(tokens));
  await model.dispose();`;

/** The first line of output of a process that loads the small model with these options and variables, and answers. */
async function answer(options: string, env: Record<string, string>): Promise<string> {
  const ended = await runScript(`const model = await load(${FOLDER}, ${options});${ANSWER}`, {
    env,
  });
  expect(ended).toMatchObject({ code: 0, signal: null });
  return ended.stdout;
}

async function refusal(env: Record<string, string>): Promise<unknown> {
  const { stdout } = await runScript(
    `try { await load(${FOLDER}); } catch (error) {
      console.log(JSON.stringify({ code: error.code, reason: error.detail.reason, message: error.message }));
    }`,
    { env },
  );
  return JSON.parse(stdout);
}

describe('the CPU', () => {
  it('computes the same with any number of threads', async () => {
    const one = await answer('{ threads: 1 }', {});
    expect(JSON.parse(one)).toHaveLength(24);
    expect(await answer('{ threads: 3 }', {})).toBe(one);
    expect(await answer('{}', { MLXK_THREADS: '2' })).toBe(one);
  });

  it('gives the same greedy answer in float32 with its plainest kernels and with none', async () => {
    const best = await answer('{}', {});
    expect(await answer('{}', { MLXK_CPU_ISA: 'portable' })).toBe(best);
    expect(await answer('{}', { MLXK_KERNELS: 'off' })).toBe(best);
  });

  it('draws the same tokens by a seed with its best kernels, its plainest, and none', async () => {
    const drawn = (env: Record<string, string>) =>
      runScript(
        `const model = await load(${FOLDER});
        const filters = [{}, { topP: 0.9 }, { topK: 7 }, { minP: 0.05 }, { topP: 0.95, topK: 30, minP: 0.001 }];
        const answers = filters.map((filter, seed) =>
          model.generate({ tokens: [5, 6, 7] }, { maxTokens: 16, temperature: 1.2, seed, ...filter }));
        answers.push(model.generate({ tokens: [5, 6, 7] }, { maxTokens: 16 }));
        console.log(JSON.stringify((await Promise.all(answers)).map(({ tokens }) => tokens)));
        await model.dispose();`,
        { env },
      );
    const best = await drawn({});
    expect(best).toMatchObject({ code: 0, signal: null });
    expect(new Set((JSON.parse(best.stdout) as number[][]).map(String)).size).toBe(6);
    expect((await drawn({ MLXK_CPU_ISA: 'portable' })).stdout).toBe(best.stdout);
    expect((await drawn({ MLXK_KERNELS: 'off' })).stdout).toBe(best.stdout);
  });

  it.each([
    ['MLXK_CPU_ISA', 'sse9', 'cpu_isa_invalid'],
    ['MLXK_THREADS', '0', 'threads_invalid'],
    ['MLXK_THREADS', '2x', 'threads_invalid'],
    ['MLXK_THREADS', '257', 'threads_invalid'],
    ['MLXK_KERNELS', 'maybe', 'kernels_invalid'],
  ])('refuses to load where %s is %s', async (name, value, reason) => {
    const error = await refusal({ [name]: value });
    expect(error).toMatchObject({ code: 'validation_error', reason });
    expect((error as { message: string }).message).toContain(name);
    expect((error as { message: string }).message).toContain(value);
  });
});
