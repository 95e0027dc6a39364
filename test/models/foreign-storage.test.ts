/**
 * Weights as other toolkits store them. What mlx-lm makes of float8, packed integers, AWQ and BitNet is in goldens
 * (deepseek_v3-float8, kimi_k2-int4, mistral-awq, llama-bitnet); here are the other shapes of scales, each beside the same
 * numbers unpacked, conversion, and what is refused.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

import { cache, load, MlxkError } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import {
  alteredModel,
  type Changes,
  type Config,
  type Tensor,
  tensorNamed,
  type Tensors,
} from './altered-model.js';
import { ownGoldens } from './golden-cases.js';
import { product, pull } from './tensor-layouts.js';

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];
const own = (name: string): string => path.join(ownGoldens, name);
const dense = own('llama');
const MATRIX = /_proj\.weight$/;

afterAll(removeTemporaryFolders);

async function scores(folder: string): Promise<Float32Array> {
  await using model = await load(folder);
  return await model.logits(PROMPT);
}

/** Codes of E4M3 that are numbers; which ones does not matter. */
const codeAt = (i: number): number => ((i * 37) % 120) | (i % 3 === 0 ? 0x80 : 0);

function fromE4M3(code: number): number {
  const exponent = (code >>> 3) & 15;
  const size = exponent === 0 ? (code & 7) * 2 ** -9 : (1 + (code & 7) / 8) * 2 ** (exponent - 7);
  return code & 0x80 ? -size : size;
}

function bf16(values: number[], shape: number[]): Tensor {
  const data = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) {
    const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
    data.writeUInt16LE((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16, 2 * i);
  }
  return { dtype: 'BF16', shape, data };
}

function f32(values: number[], shape: number[]): Tensor {
  return { dtype: 'F32', shape, data: Buffer.from(Float32Array.from(values).buffer) };
}

interface Float8 {
  block: [number, number];
  /** Of a matrix with so many blocks. */
  scales: (
    rows: number,
    columns: number,
  ) => { tensor: Tensor; at: (i: number, j: number) => number };
  config?: Config;
}

const scaleAt = (i: number, j: number): number => Math.fround(0.01 * (1 + i + 2 * j));

const FLOAT8: Record<string, Float8> = {
  'one scale for each block': {
    block: [24, 20], // divides neither side of most
    scales: (rows, columns) => ({
      tensor: f32(
        Array.from({ length: rows * columns }, (_, k) =>
          scaleAt(Math.floor(k / columns), k % columns),
        ),
        [rows, columns],
      ),
      at: scaleAt,
    }),
    config: { weight_block_size: [24, 20] },
  },
  'blocks that divide it': {
    block: [16, 32],
    scales: (rows, columns) => ({
      tensor: f32(
        Array.from({ length: rows * columns }, (_, k) =>
          scaleAt(Math.floor(k / columns), k % columns),
        ),
        [rows, columns],
      ),
      at: scaleAt,
    }),
    config: { weight_block_size: [16, 32] },
  },
  'powers of two for each block': {
    block: [32, 32],
    scales: (rows, columns) => ({
      tensor: {
        dtype: 'F8_E8M0',
        shape: [rows, columns],
        data: Buffer.from(Array.from({ length: rows * columns }, (_, k) => 119 + (k % 3))),
      },
      at: (i, j) => 2 ** (((i * columns + j) % 3) - 8),
    }),
    config: { weight_block_size: [32, 32], scale_fmt: 'ue8m0' },
  },
  'one scale of all': {
    block: [1e9, 1e9],
    scales: () => ({ tensor: f32([0.02], []), at: () => Math.fround(0.02) }),
  },
};

/** The matrices of the golden in float8 as `kind` has it, and the same numbers in bfloat16. */
function float8Pair({ block, scales, config }: Float8): { packed: string; plain: string } {
  const make = (pack: boolean): string =>
    alteredModel(dense, {
      config: (settings) => {
        if (pack) settings['quantization_config'] = { quant_method: 'fp8', ...config };
      },
      tensors: (tensors) => {
        for (const name of [...tensors.keys()].filter((key) => MATRIX.test(key))) {
          const { shape } = pull(tensors, name);
          const [rows, columns] = shape as [number, number];
          const codes = Array.from({ length: rows * columns }, (_, i) => codeAt(i));
          const { tensor, at } = scales(Math.ceil(rows / block[0]), Math.ceil(columns / block[1]));
          if (pack) {
            // Before and behind their matrix: files may have them in any order.
            const isFirst = name.includes('.0.');
            if (isFirst) tensors.set(`${name}_scale_inv`, tensor);
            tensors.set(name, { dtype: 'F8_E4M3', shape, data: Buffer.from(codes) });
            if (!isFirst) tensors.set(`${name}_scale_inv`, tensor);
            tensors.set(name.replace('weight', 'activation_scale'), f32([1], []));
            continue;
          }
          const values = codes.map((code, k) => {
            const [i, j] = [Math.floor(k / columns), k % columns];
            return fromE4M3(code) * at(Math.floor(i / block[0]), Math.floor(j / block[1]));
          });
          tensors.set(name, bf16(values.map(Math.fround), shape));
        }
      },
    });
  return { packed: make(true), plain: make(false) };
}

describe('float8', () => {
  it.each(Object.entries(FLOAT8))('with %s is the numbers that it stands for', async (_, kind) => {
    const { packed, plain } = float8Pair(kind);
    expect(await scores(packed)).toEqual(await scores(plain));
  });

  it('counts with what it takes in memory', async () => {
    const { packed, plain } = float8Pair(FLOAT8['one scale of all']!);
    await using model = await load(packed);
    await using wide = await load(plain);
    expect(model.info.weightType).toBe('bfloat16');
    // The scales themselves, and those of activations, are a few bytes.
    expect(model.info.weightBytes - wide.info.weightBytes).toBeLessThan(200);
    expect(model.info.weightBytes).toBeGreaterThan(wide.info.weightBytes);
  });

  it.each(['one scale for each block', 'one scale of all'])(
    'with %s is converted to the bytes that its numbers give',
    async (kind) => {
      const { packed, plain } = float8Pair(FLOAT8[kind]!);
      const made = await Promise.all(
        [packed, plain].map(async (folder) => {
          const target = path.join(temporaryFolder(), 'made');
          await cache.convert(folder, target, { quantize: 4, groupSize: 32 });
          return target;
        }),
      );
      const [a, b] = made.map((folder) => readFileSync(path.join(folder, 'model.safetensors')));
      expect(a!.equals(b!)).toBe(true);
      const [c, d] = made.map((folder) => readFileSync(path.join(folder, 'config.json'), 'utf8'));
      expect(c).toBe(d);
    },
  );
});

/** The packed matrices of an MLX golden under the names and types that `to` gives them. */
function repacked(
  name: string,
  config: (config: Config) => void,
  to: (module: string, weight: Tensor, scales: Tensor) => Tensors,
): string {
  return alteredModel(own(name), {
    config: (settings) => {
      delete settings['quantization'];
      delete settings['quantization_config'];
      config(settings);
    },
    tensors: (tensors) => {
      for (const key of [...tensors.keys()].filter((each) => each.endsWith('.scales'))) {
        const module = key.replace(/\.scales$/, '');
        const weight = pull(tensors, `${module}.weight`);
        for (const [made, tensor] of to(module, weight, pull(tensors, key))) {
          tensors.set(made, tensor);
        }
      }
    },
  });
}

/** The words of a tensor as bytes, which its last axis then counts. */
function inBytes({ shape, data }: Tensor, dtype: string): Tensor {
  return { dtype, shape: [...shape.slice(0, -1), 4 * shape.at(-1)!], data };
}

const mxfp4 = (): string =>
  repacked(
    'llama-mxfp4',
    (config) => {
      config['quantization_config'] = {
        quant_method: 'compressed-tensors',
        format: 'mxfp4-pack-quantized',
      };
    },
    (module, weight, scales) =>
      new Map([
        [`${module}.weight_packed`, inBytes(weight, 'U8')],
        [`${module}.weight_scale`, scales],
      ]),
  );

const mxfp8 = (): string =>
  repacked(
    'qwen2-mxfp8',
    (config) => {
      config['quantization_config'] = { quant_method: 'mxfp8', weight_block_size: [1, 32] };
    },
    (module, weight, scales) =>
      new Map([
        [`${module}.weight`, inBytes(weight, 'F8_E4M3')],
        [`${module}.weight_scale_inv`, scales],
      ]),
  );

describe('what MLX computes with as it is', () => {
  it.each([
    ['MXFP4 of compressed-tensors', 'llama-mxfp4', mxfp4],
    ['MXFP8 beside its exponents', 'qwen2-mxfp8', mxfp8],
  ])('%s stays packed', async (_, golden, make) => {
    const folder = make();
    expect(await scores(folder)).toEqual(await scores(own(golden)));
    const unpacked = [folder, own(golden)].map(async (source) => {
      const target = path.join(temporaryFolder(), 'plain');
      await cache.convert(source, target, { dequantize: true });
      return readFileSync(path.join(target, 'model.safetensors'));
    });
    const [a, b] = await Promise.all(unpacked);
    expect(a!.equals(b!)).toBe(true);
  });

  it('is restated in the words of MLX by a conversion that leaves it packed', async () => {
    const target = path.join(temporaryFolder(), 'cast');
    await cache.convert(own('kimi_k2-int4'), target, { dtype: 'float32' });
    const config = JSON.parse(readFileSync(path.join(target, 'config.json'), 'utf8')) as Config;
    expect(config['quantization']).toEqual({ group_size: 32, bits: 4, mode: 'affine' });
    expect(config['quantization_config']).toEqual(config['quantization']);
    expect(await scores(target)).toEqual(await scores(own('kimi_k2-int4')));
  });

  it.each(['kimi_k2-int4', 'deepseek_v3-float8'])('%s gives its scores unpacked', async (name) => {
    const target = path.join(temporaryFolder(), 'plain');
    await cache.convert(own(name), target, { dequantize: true });
    const [actual, expected] = [await scores(target), await scores(own(name))];
    const off = Math.max(...actual.map((score, i) => Math.abs(score - expected[i]!)));
    expect(off / Math.max(...expected.map(Math.abs))).toBeLessThan(1e-5);
  });
});

interface Refused extends Changes {
  name: string;
  from: string;
  reason: string;
  says: string[];
}

const method =
  (settings: Config) =>
  (config: Config): void => {
    config['quantization_config'] = settings;
  };
const FLOAT8_UP = 'model.layers.0.mlp.up_proj.weight';
const INT4_UP = 'model.layers.1.mlp.experts.0.up_proj';
const AWQ_UP = 'model.layers.0.mlp.up_proj';

const REFUSED: Refused[] = [
  {
    name: 'float8 without scales',
    from: 'deepseek_v3-float8',
    tensors: (tensors) => void pull(tensors, `${FLOAT8_UP}_scale_inv`),
    reason: 'tensor_missing',
    says: [`${FLOAT8_UP}_scale_inv`],
  },
  {
    name: 'scales of other blocks',
    from: 'deepseek_v3-float8',
    tensors: (tensors) => {
      const scales = tensorNamed(tensors, `${FLOAT8_UP}_scale_inv`);
      scales.shape = [product(scales.shape), 1];
    },
    reason: 'tensor_shape',
    says: [`${FLOAT8_UP}_scale_inv`, '[4, 1]', '[2, 2]'],
  },
  {
    name: 'scales that are no numbers',
    from: 'deepseek_v3-float8',
    tensors: (tensors) => (tensorNamed(tensors, `${FLOAT8_UP}_scale_inv`).dtype = 'I32'),
    reason: 'tensor_type',
    says: [`${FLOAT8_UP}_scale_inv`, 'I32'],
  },
  {
    name: 'a block of one number',
    from: 'deepseek_v3-float8',
    config: method({ quant_method: 'fp8', weight_block_size: [128] }),
    reason: 'config_invalid',
    says: ['weight_block_size'],
  },
  {
    name: 'packed integers without scales',
    from: 'kimi_k2-int4',
    tensors: (tensors) => void pull(tensors, `${INT4_UP}.weight_scale`),
    reason: 'tensor_missing',
    says: [`${INT4_UP}.weight_scale`],
  },
  {
    name: 'packed integers with scales of other rows',
    from: 'kimi_k2-int4',
    tensors: (tensors) => void tensorNamed(tensors, `${INT4_UP}.weight_scale`).shape.reverse(),
    reason: 'tensor_shape',
    says: [`${INT4_UP}.weight_scale`],
  },
  {
    name: 'packed integers of eight bits',
    from: 'kimi_k2-int4',
    config: method({
      quant_method: 'compressed-tensors',
      format: 'pack-quantized',
      config_groups: { group_0: { weights: { num_bits: 8 } } },
    }),
    reason: 'quantization_unsupported',
    says: ['quantization_config.config_groups.group_0.weights.num_bits', '8'],
  },
  {
    name: 'a format of compressed-tensors that MLX has not',
    from: 'kimi_k2-int4',
    config: method({ quant_method: 'compressed-tensors', format: 'float-quantized' }),
    reason: 'quantization_unsupported',
    says: ['quantization_config.format', 'float-quantized'],
  },
  {
    name: 'AWQ without scales',
    from: 'mistral-awq',
    tensors: (tensors) => void pull(tensors, `${AWQ_UP}.scales`),
    reason: 'tensor_missing',
    says: [`${AWQ_UP}.scales`],
  },
  {
    name: 'AWQ with zeros of other groups',
    from: 'mistral-awq',
    tensors: (tensors) => void tensorNamed(tensors, `${AWQ_UP}.qzeros`).shape.reverse(),
    reason: 'tensor_shape',
    says: [`${AWQ_UP}.qzeros`],
  },
  {
    name: 'AWQ in another order',
    from: 'mistral-awq',
    config: method({ quant_method: 'awq', bits: 4, group_size: 64, version: 'gemv' }),
    reason: 'quantization_unsupported',
    says: ['quantization_config.version', 'gemv'],
  },
  {
    name: 'AWQ of eight bits',
    from: 'mistral-awq',
    config: method({ quant_method: 'awq', bits: 8, group_size: 64 }),
    reason: 'quantization_unsupported',
    says: ['quantization_config.bits', '8'],
  },
  {
    name: 'ternary weights without their scale',
    from: 'llama-bitnet',
    tensors: (tensors) => void pull(tensors, `${AWQ_UP}.weight_scale`),
    reason: 'tensor_missing',
    says: [`${AWQ_UP}.weight_scale`],
  },
  {
    name: 'a method that nobody knows',
    from: 'llama',
    config: method({ quant_method: 'gptq', bits: 4, group_size: 64 }),
    reason: 'quantization_unsupported',
    says: ['quantization_config.quant_method', 'gptq'],
  },
];

describe('refused', () => {
  it.each(REFUSED)('$name', async ({ from, reason, says, ...changes }) => {
    const outcome: unknown = await load(alteredModel(own(from), changes)).catch(
      (error: unknown) => error,
    );
    expect(outcome).toBeInstanceOf(MlxkError);
    expect(outcome).toMatchObject({ code: 'validation_error', reason });
    for (const part of says) expect((outcome as MlxkError).message).toContain(part);
  });

  it.each(REFUSED.filter(({ reason }) => /^tensor/.test(reason)).slice(0, 5))(
    'by convert: $name',
    async ({ from, reason, says, ...changes }) => {
      const source = alteredModel(own(from), changes);
      const target = path.join(temporaryFolder(), 'made');
      const outcome: unknown = await cache
        .convert(source, target, { quantize: 4, groupSize: 32 })
        .catch((error: unknown) => error);
      expect(outcome).toMatchObject({ code: 'validation_error', reason });
      expect((outcome as MlxkError).message).toContain(says[0]);
    },
  );
});

/** Types of one size, any of which a header may claim. */
const ALIKE = [
  ['F32', 'I32', 'U32'],
  ['BF16', 'F16', 'I16', 'U16'],
  ['U8', 'I8', 'F8_E4M3', 'F8_E8M0', 'BOOL'],
];

type Change = 'drop' | 'reverse' | 'flatten' | 'nest' | 'retype' | 'cut' | 'empty';

function change(tensors: Tensors, which: number, what: Change, choice: number): void {
  const names = [...tensors.keys()];
  const name = names[which % names.length]!;
  const tensor = tensors.get(name)!;
  const [rows = 1, ...rest] = tensor.shape;
  if (what === 'drop') tensors.delete(name);
  else if (what === 'reverse') tensor.shape.reverse();
  else if (what === 'flatten') tensor.shape = [product(tensor.shape)];
  else if (what === 'nest') tensor.shape = [1, ...tensor.shape];
  else if (what === 'retype') {
    const types = ALIKE.find((each) => each.includes(tensor.dtype))!;
    tensor.dtype = types[choice % types.length]!;
  } else {
    const kept = what === 'cut' ? rows - 1 : 0;
    tensor.data = tensor.data.subarray(0, (tensor.data.length / rows) * kept);
    tensor.shape = [kept, ...rest];
  }
}

describe('tensors that were changed at random', () => {
  it.each(['deepseek_v3-float8', 'kimi_k2-int4', 'mistral-awq', 'llama-bitnet'])(
    '%s loads or is refused with a typed error',
    async (name) => {
      await fc.assert(
        fc.asyncProperty(
          fc.nat(),
          fc.constantFrom<Change>('drop', 'reverse', 'flatten', 'nest', 'retype', 'cut', 'empty'),
          fc.nat(),
          async (which, what, choice) => {
            const folder = alteredModel(own(name), {
              tensors: (tensors) => change(tensors, which, what, choice),
            });
            const outcome: unknown = await scores(folder).catch((error: unknown) => error);
            if (outcome instanceof Float32Array) return;
            expect(outcome).toBeInstanceOf(MlxkError);
            expect((outcome as MlxkError).code).toBe('validation_error');
          },
        ),
        { numRuns: Number(process.env['MLXK_TEST_MUTATIONS'] || 400) / 4 },
      );
    },
  );
});
