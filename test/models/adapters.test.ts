/**
 * Adapters on a shared model: one for every call or one a call, side by side with calls that have none; what is wrong
 * with a folder is said by name. Their numbers are compared with mlx-lm's in goldens.test.ts.
 */

import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { load, MlxkError } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { ownGoldens } from './golden-cases.js';

const base = path.join(ownGoldens, 'llama-lora');
const lora = path.join(base, 'adapters');
const PROMPT = { tokens: [5, 9, 3, 17, 8, 4] };
const OPTIONS = { maxTokens: 12 };

afterAll(removeTemporaryFolders);

async function refusal(work: Promise<unknown>): Promise<MlxkError> {
  const outcome = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(MlxkError);
  return outcome as MlxkError;
}

/** A copy of the adapter with one file replaced. */
function broken(file: string, content: string | undefined): string {
  const folder = path.join(temporaryFolder(), 'adapters');
  cpSync(lora, folder, { recursive: true });
  if (content === undefined) rmSync(path.join(folder, file));
  else writeFileSync(path.join(folder, file), content);
  return folder;
}

describe('an adapter', () => {
  it('changes the calls that name it, and no other that runs beside them', async () => {
    await using model = await load(base);
    await using adapted = await load(base, { adapter: lora });
    const plain = (await model.generate(PROMPT, OPTIONS)).tokens;
    const expected = (await adapted.generate(PROMPT, OPTIONS)).tokens;
    expect(expected).not.toEqual(plain);

    const mixed = await Promise.all(
      [undefined, lora, null, lora, undefined].map(
        async (adapter) => (await model.generate(PROMPT, { ...OPTIONS, adapter })).tokens,
      ),
    );
    expect(mixed).toEqual([plain, expected, plain, expected, plain]);
  });

  it('of the load is left aside by a call that says null', async () => {
    await using model = await load(base);
    await using adapted = await load(base, { adapter: lora });
    const { tokens } = await adapted.generate(PROMPT, { ...OPTIONS, adapter: null });
    expect(tokens).toEqual((await model.generate(PROMPT, OPTIONS)).tokens);
  });

  it('shares the weights of its model', async () => {
    await using model = await load(base);
    const before = (await model.generate(PROMPT, OPTIONS)).timings.peakMemoryBytes;
    const after = (await model.generate(PROMPT, { ...OPTIONS, adapter: lora })).timings;
    expect(after.peakMemoryBytes - before).toBeLessThan(model.info.weightBytes);
  });

  it.each([
    ['no such folder', path.join(lora, 'none'), 'adapter_missing', 'none'],
    [
      'no adapter_config.json',
      broken('adapter_config.json', undefined),
      'adapter_config_missing',
      'adapter_config.json',
    ],
    [
      'a config that is no JSON',
      broken('adapter_config.json', '{'),
      'adapter_config_invalid',
      'adapter_config.json',
    ],
    [
      'a kind of training nobody knows',
      broken('adapter_config.json', '{"fine_tune_type": "magic"}'),
      'config_invalid',
      'fine_tune_type',
    ],
    [
      'no scale',
      broken('adapter_config.json', '{"lora_parameters": {"rank": 4}}'),
      'config_missing_field',
      'lora_parameters.scale',
    ],
    [
      'no weights',
      broken('adapters.safetensors', undefined),
      'file_missing',
      'adapters.safetensors',
    ],
    [
      'weights that are none',
      broken('adapters.safetensors', 'version https://git-lfs.github.com/spec/v1\n'),
      'lfs_pointer',
      'adapters.safetensors',
    ],
    [
      'the adapter of another model',
      path.join(ownGoldens, 'qwen3_moe-lora', 'adapters'),
      'tensor_shape',
      'lora_a',
    ],
  ])('is refused for %s', async (_what, folder, reason, says) => {
    const error = await refusal(load(base, { adapter: folder }));
    expect(error).toMatchObject({ code: 'validation_error', reason });
    expect(error.message).toContain(says);

    await using model = await load(base);
    expect(
      await refusal(model.generate(PROMPT, { ...OPTIONS, adapter: folder }).then()),
    ).toMatchObject({ reason });
    await model.generate(PROMPT, OPTIONS); // The model is none the worse.
  });

  it('that was mended is read again', async () => {
    const folder = path.join(temporaryFolder(), 'adapters');
    mkdirSync(folder);
    await using model = await load(base);
    await refusal(model.generate(PROMPT, { ...OPTIONS, adapter: folder }).then());
    cpSync(lora, folder, { recursive: true });
    await model.generate(PROMPT, { ...OPTIONS, adapter: folder });
  });
});
