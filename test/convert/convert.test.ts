import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

import { addon } from '../../lib/binding.js';
import { modelCard } from '../../lib/convert/model-card.js';
import type { ConvertOptions } from '../../lib/convert/options.js';
import type { Parameter } from '../../lib/convert/parameters.js';
import { layOut } from '../../lib/convert/plan.js';
import { SourceQuantization } from '../../lib/convert/quantization.js';
import { readHeader } from '../../lib/convert/source.js';
import { cache, load, MlxkError } from '../../lib/index.js';
import { writeFiles } from '../helpers/fixture-cache.js';
import { smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { safetensors, type Tensors } from '../helpers/weights.js';
import { ownGoldens } from '../models/golden-cases.js';

afterAll(removeTemporaryFolders);

const golden = (name: string): string => path.join(ownGoldens, name);

async function converted(source: string, options: ConvertOptions): Promise<string> {
  const target = path.join(temporaryFolder(), 'made');
  await cache.convert(source, target, options);
  return target;
}

interface Stored {
  dtype: string;
  shape: number[];
  data: Buffer;
}

/** Every tensor of a folder with its bytes. */
async function tensorsOf(folder: string): Promise<Map<string, Stored>> {
  const tensors = new Map<string, Stored>();
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.safetensors'))) {
    const file = path.join(folder, name);
    const bytes = readFileSync(file);
    for (const { name: tensor, dtype, shape, begin, bytes: length } of await readHeader(file)) {
      tensors.set(tensor, { dtype, shape, data: bytes.subarray(begin, begin + length) });
    }
  }
  return tensors;
}

async function failure(work: Promise<unknown>): Promise<Error> {
  return await work.then(
    () => expect.fail('it did not fail'),
    (thrown: unknown) => thrown as Error,
  );
}

/** A safetensors file of given tensors. */
function stored(tensors: ReadonlyMap<string, Stored>): Buffer {
  const layout = Object.fromEntries(
    [...tensors].map(([name, { dtype, shape }]): [string, Tensors[string]] => [
      name,
      [dtype, shape],
    ]),
  );
  const file = safetensors(layout);
  const bodies = Buffer.concat([...tensors.values()].map(({ data }) => data));
  return Buffer.concat([file.subarray(0, file.length - bodies.length), bodies]);
}

describe('a checkpoint as its publisher stores it', () => {
  it.each([
    ['mixtral', 'block_sparse_moe', { gate_proj: 'w1', down_proj: 'w2', up_proj: 'w3' }],
    ['qwen3_moe', 'mlp', {}],
    ['qwen2_moe', 'mlp', {}],
  ])('has its experts put together: %s', async (name, module, names: Record<string, string>) => {
    const tensors = await tensorsOf(golden(name));
    const apart = new Map<string, Stored>();
    for (const [tensor, { dtype, shape, data }] of tensors) {
      const [, prefix, projection = ''] = /^(.+)\.switch_mlp\.(\w+)\.weight$/.exec(tensor) ?? [];
      if (prefix === undefined) {
        apart.set(tensor, { dtype, shape, data });
        continue;
      }
      expect(prefix.endsWith(module)).toBe(true);
      const [experts = 0, ...rest] = shape;
      for (let expert = 0; expert < experts; expert++) {
        const length = data.length / experts;
        apart.set(`${prefix}.experts.${expert}.${names[projection] ?? projection}.weight`, {
          dtype,
          shape: rest,
          data: data.subarray(expert * length, (expert + 1) * length),
        });
      }
    }
    const source = temporaryFolder();
    writeFiles(source, {
      'config.json': readFileSync(path.join(golden(name), 'config.json')),
      'model.safetensors': stored(apart),
    });
    const options = { quantize: 4, groupSize: 32 } as const;
    const [fromApart, fromStacked] = [
      await converted(source, options),
      await converted(golden(name), options),
    ];
    const file = 'model.safetensors';
    expect(
      readFileSync(path.join(fromApart, file)).equals(readFileSync(path.join(fromStacked, file))),
    ).toBe(true);
  });

  it('loses the output matrix that it shares', async () => {
    const source = smallModelFolder();
    const tensors = await tensorsOf(source);
    tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!);
    writeFileSync(path.join(source, 'model.safetensors'), stored(tensors));
    const made = await converted(source, { dtype: 'float16' });
    expect([...(await tensorsOf(made)).keys()]).not.toContain('lm_head.weight');
    await using model = await load(made);
    expect(model.info.weightType).toBe('float16');
  });

  it.each<[string, string, string]>([
    ['llama', 'model.layers.0.mlp.up_proj.qweight', 'layout_unsupported'],
    ['deepseek_v3', 'model.layers.0.self_attn.kv_b_proj.weight', 'layout_unsupported'],
    ['gpt_oss', 'model.layers.0.mlp.experts.gate_up_proj_blocks', 'layout_unsupported'],
    ['qwen3_moe', 'model.layers.0.mlp.experts.1.up_proj.weight', 'experts_invalid'],
  ])('is refused where it would need more: %s %s', async (model_type, tensor, reason) => {
    const source = temporaryFolder();
    writeFiles(source, {
      'config.json': { model_type },
      'model.safetensors': safetensors({ [tensor]: ['F32', [4, 64]] }),
    });
    const error = await failure(converted(source, { quantize: 4 }));
    expect(error).toBeInstanceOf(MlxkError);
    expect(error).toMatchObject({ reason });
    expect(error.message).toContain(reason === 'experts_invalid' ? 'switch_mlp.up_proj' : tensor);
  });
});

describe('a quantized source', () => {
  it.each(['llama-4bit-g64', 'qwen3-8bit-g128', 'llama-mxfp4', 'llama-mixed-bits', 'qwen3-nvfp4'])(
    'is quantized anew as if it had been plain: %s',
    async (name) => {
      const options = { quantize: 3, groupSize: 32 } as const;
      const plain = await converted(golden(name), { dequantize: true });
      const [direct, byPlain] = [
        await converted(golden(name), options),
        await converted(plain, options),
      ];
      const file = 'model.safetensors';
      expect(
        readFileSync(path.join(direct, file)).equals(readFileSync(path.join(byPlain, file))),
      ).toBe(true);
      await using model = await load(direct);
      expect(model.info.weightType).toBe('3-bit');
    },
  );

  it.each(['llama-mxfp4', 'llama-4bit-g64'])('has the type that is asked for: %s', async (name) => {
    const made = await tensorsOf(
      await converted(golden(name), { dequantize: true, dtype: 'float16' }),
    );
    expect(new Set([...made.values()].map(({ dtype }) => dtype))).toEqual(new Set(['F16']));
  });

  it('is what --dequantize needs', async () => {
    expect(await failure(converted(golden('llama'), { dequantize: true }))).toMatchObject({
      code: 'validation_error',
      reason: 'not_quantized',
    });
  });
});

describe('the layout of files', () => {
  const parameters = (sizes: readonly number[]): Parameter[] =>
    sizes.map((columns, index) => ({
      name: `model.layers.${index}.mlp.up_proj.weight`,
      encoding: 'F32',
      shape: [4, columns],
      parts: [
        {
          name: `${index}`,
          encoding: 'F32',
          shape: [4, columns],
          file: 0,
          begin: 0,
          bytes: 16 * columns,
        },
      ],
    }));

  it('keeps every file within the limit, every tensor in one place, and the index true', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 16, max: 2000 }), (columns, maxShardBytes) => {
        const layout = layOut(parameters(columns), ['f'], {
          modelClass: 'llama',
          changes: {},
          source: new SourceQuantization({}),
          folder: '/x',
          maxShardBytes,
        });
        const map = (layout.index as { weight_map: Record<string, string> }).weight_map;
        const { shards, jobs } = layout.plan;
        for (const { tensors } of shards) {
          const bytes = tensors.reduce(
            (sum, { shape }) => sum + 4 * shape.reduce((a, b) => a * b, 1),
            0,
          );
          expect(bytes <= maxShardBytes || tensors.length === 1).toBe(true);
        }
        const placed = shards.flatMap(({ path: file, tensors }) =>
          tensors.map(({ name }) => [name, path.basename(file)]),
        );
        expect(Object.fromEntries(placed)).toEqual(map);
        expect(Object.keys(map)).toHaveLength(columns.length);
        expect(new Set(jobs.map(({ weightTo }) => weightTo.join())).size).toBe(columns.length);
        const count = String(shards.length).padStart(5, '0');
        for (const [index, { path: file }] of shards.entries()) {
          const number = String(index + 1).padStart(5, '0');
          const name =
            shards.length === 1 ? 'model.safetensors' : `model-${number}-of-${count}.safetensors`;
          expect(path.basename(file)).toBe(name);
        }
      }),
    );
  });

  it('of several files loads like one', async () => {
    const source = golden('llama');
    const file = path.join(source, 'model.safetensors');
    const header = await readHeader(file);
    const folder = temporaryFolder();
    const layout = layOut(
      header.map(({ dtype, ...tensor }) => ({
        name: tensor.name,
        encoding: dtype,
        shape: tensor.shape,
        parts: [{ ...tensor, encoding: dtype, file: 0 }],
      })),
      [file],
      {
        modelClass: 'llama',
        changes: { quantize: { mode: 'affine', bits: 4, groupSize: 32 } },
        source: new SourceQuantization({}),
        folder,
        maxShardBytes: 20_000,
      },
    );
    expect(layout.plan.shards.length).toBeGreaterThan(2);
    await addon().convert(JSON.stringify(layout.plan), () => undefined).promise;
    const whole = await tensorsOf(await converted(source, { quantize: 4, groupSize: 32 }));
    const parts = await tensorsOf(folder);
    expect([...parts.keys()].sort()).toEqual([...whole.keys()].sort());
    for (const [name, { data }] of parts) expect(data.equals(whole.get(name)!.data)).toBe(true);
  });
});

describe('the options of convert', () => {
  it.each<[object, string]>([
    [{ quantise: 4 }, 'unknown option "quantise"; did you mean "quantize"?'],
    [{ quantize: 7 }, 'quantize must be one of 2, 3, 4, 6, 8, got 7'],
    [{ quantize: null }, 'quantize must be one of'],
    [{ quantize: Number.NaN }, 'quantize must be one of'],
    [{ quantize: 4, groupSize: 2 ** 53 }, 'groupSize must be one of 32, 64, 128'],
    [{ quantize: 4, mode: 'toString' }, 'mode must be one of'],
    [{ repairIndex: 1 }, 'repairIndex must be true or false'],
    [{ dequantize: true, repairIndex: true }, 'choose one of'],
    [{ groupSize: 64 }, 'say what to do'],
    [{}, 'say what to do'],
  ])('%j are refused by name', async (options, message) => {
    const target = path.join(temporaryFolder(), 'made');
    const error = await failure(cache.convert(smallModelFolder(), target, options));
    expect(error instanceof TypeError || error instanceof RangeError).toBe(true);
    expect(error.message).toContain(message);
    expect(existsSync(target)).toBe(false);
  });

  it('tell of progress, and a signal ends the work with its reason', async () => {
    const seen: number[] = [];
    await converted(golden('llama'), {
      quantize: 4,
      groupSize: 32,
      onProgress: ({ doneBytes, totalBytes }) => {
        expect(doneBytes).toBeLessThanOrEqual(totalBytes);
        seen.push(doneBytes / totalBytes);
      },
    });
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));

    const reason = new Error('enough');
    const stopping = new AbortController();
    const parent = temporaryFolder();
    const work = cache.convert(golden('llama'), path.join(parent, 'made'), {
      quantize: 4,
      signal: stopping.signal,
      onProgress: () => {
        stopping.abort(reason);
      },
    });
    expect(await failure(work)).toBe(reason);
    expect(readdirSync(parent)).toEqual([]);
  });

  it('refuse a place that may not be written to', async () => {
    const parent = temporaryFolder();
    chmodSync(parent, 0o555);
    // The superuser may do anything, so it becomes nobody for a while.
    const isRoot = process.getuid!() === 0;
    if (isRoot) process.seteuid!(65_534);
    try {
      const work = cache.convert('builtin', path.join(parent, 'made'), { quantize: 4 });
      expect(await failure(work)).toMatchObject({
        code: 'permission_denied',
        detail: { system_code: 'EACCES' },
      });
    } finally {
      if (isRoot) process.seteuid!(0);
    }
  });

  it('let what a callback throws end the work', async () => {
    const parent = temporaryFolder();
    const thrown = new RangeError('mine');
    const work = cache.convert(golden('llama'), path.join(parent, 'made'), {
      quantize: 4,
      onProgress: () => {
        throw thrown;
      },
    });
    expect(await failure(work)).toBe(thrown);
    expect(readdirSync(parent)).toEqual([]);
  });
});

describe('conversions beside each other and beside an answer', () => {
  it('all come to their ends', async () => {
    await using model = await load('builtin');
    const answer = model.generate('How do I list my models?', { maxTokens: 30 });
    const [, ...made] = await Promise.all([
      answer,
      converted(golden('llama'), { quantize: 4 }),
      converted(golden('qwen3'), { quantize: 8 }),
    ]);
    for (const folder of made) expect(existsSync(path.join(folder, 'config.json'))).toBe(true);
  });
});

describe('the addon, called directly', () => {
  const plan = (changes: object): string =>
    JSON.stringify({ files: [], shards: [], jobs: [], ...changes });
  const job = { rows: 1, columns: 64, weight: { encoding: 'F32', parts: [] }, weightTo: [0, 0] };

  it.each([
    ['', 'plan_invalid'],
    ['[]', 'plan_invalid'],
    ['{"files":[]}', 'plan_invalid'],
    [plan({ files: ['/nowhere'] }), 'file_missing'],
    [plan({ jobs: [job] }), 'plan_invalid'],
    [plan({ jobs: [{ ...job, columns: 0 }] }), 'plan_invalid'],
    [plan({ jobs: [{ ...job, rows: 2 ** 53 }] }), 'plan_invalid'],
    [plan({ jobs: [{ ...job, weight: { encoding: 'F33', parts: [] } }] }), 'plan_invalid'],
    [
      plan({ jobs: [{ ...job, weight: { encoding: 'F32', parts: [[7, 0, 256]] } }] }),
      'plan_invalid',
    ],
    [plan({ jobs: [{ ...job, to: { mode: 'affine', bits: 0, groupSize: 0 } }] }), 'plan_invalid'],
    [plan({ jobs: [{ ...job, to: { mode: 'x', bits: 4, groupSize: 64 } }] }), 'plan_invalid'],
    [plan({ jobs: [{ ...job, interleavedHeads: 3 }] }), 'plan_invalid'],
    [
      plan({ jobs: [{ ...job, transposed: { matrixRows: 1, width: 2, first: 2 } }] }),
      'plan_invalid',
    ],
    [plan({ shards: [{ path: '/nowhere/x', tensors: [] }] }), 'write_failed'],
    [
      plan({
        shards: [
          { path: '/nowhere/x', tensors: [{ name: 'a', dtype: 'F32', shape: [2 ** 52, 2 ** 52] }] },
        ],
      }),
      'size_overflow',
    ],
  ])('refuses %s', async (text, reason) => {
    expect(await failure(addon().convert(text, () => undefined).promise)).toMatchObject({ reason });
  });

  it('takes nothing but a text and a function', () => {
    const native = addon() as unknown as Record<string, (...given: unknown[]) => unknown>;
    expect(() => native['convert']!(7, () => undefined)).toThrow(TypeError);
    expect(() => native['convert']!('{}', 7)).toThrow(TypeError);
    expect(() => native['readSafetensors']!(undefined)).toThrow(TypeError);
    expect(() => native['checkModel']!({})).toThrow(TypeError);
  });
});

describe('the model card', () => {
  it.each<[string, string | undefined, string]>([
    [
      'is made where there is none',
      undefined,
      '---\npipeline_tag: text-generation\nlibrary_name: mlx\ntags:\n- mlx\n---\n',
    ],
    [
      'keeps what it does not set',
      '---\nlicense: mit\nlibrary_name: transformers\ntags:\n  - chat\n  - "MLX"\nwidget:\n  - text: hi\n---\n# Body\n---\n',
      '---\nlicense: mit\nwidget:\n  - text: hi\npipeline_tag: text-generation\nlibrary_name: mlx\ntags:\n- chat\n- mlx\n---\n# Body\n---\n',
    ],
    [
      'reads tags in brackets',
      '---\npipeline_tag: x\ntags: [a, "b c"]\n---\n',
      '---\npipeline_tag: x\nlibrary_name: mlx\ntags:\n- a\n- "b c"\n- mlx\n---\n',
    ],
    [
      'takes a page without front matter for a body',
      '# Title\n',
      '---\npipeline_tag: text-generation\nlibrary_name: mlx\ntags:\n- mlx\n---\n# Title\n',
    ],
  ])('%s', (_, readme, expected) => {
    expect(modelCard(readme, null)).toBe(expected);
  });
});
