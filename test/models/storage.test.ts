/**
 * Every family in the number formats that checkpoints come in: 16-bit floats give what float32 gives of the same rounded
 * weights, and a 4-bit model gives what its own dequantized weights give.
 */

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { cache, load } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { alteredModel, type Tensor, type Tensors } from './altered-model.js';
import { goldenCases, type GoldenCase, goldenFolders, ownGoldens } from './golden-cases.js';

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];
/** Of the largest score. On a GPU activations have 16 bits too, and the cases beside the repository go further. */
const SIXTEEN_BITS = 3e-2;
const SAME_NUMBERS = 1e-3;

function isForeign(folder: string): boolean {
  return readFileSync(path.join(folder, 'config.json'), 'utf8').includes('"quantization_config"');
}

/** Cases in one file of float32, with nothing packed. */
const plain = goldenFolders().flatMap((folder) =>
  goldenCases(folder).filter(
    ({ folder: found, golden, adapter }) =>
      (golden.weights ?? 'float32') === 'float32' &&
      golden.quantize == null &&
      golden.kv == null &&
      adapter === undefined &&
      existsSync(path.join(found, 'model.safetensors')) &&
      (golden.model_type === 'bitnet' || !isForeign(found)),
  ),
);
const isOwn = ({ folder }: GoldenCase): boolean => path.dirname(folder) === ownGoldens;

/** The first case of every model_type. */
const families = new Map<string, GoldenCase>();
for (const found of plain.filter(isOwn)) {
  if (!families.has(found.golden.model_type)) families.set(found.golden.model_type, found);
}

afterAll(removeTemporaryFolders);

/** float32 to bfloat16, ties to even. */
function toBf16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** float32 to float16 for values that it holds as normal numbers or zero; smaller ones become zero. */
function toF16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const rounded = bits + 0xfff + ((bits >>> 13) & 1);
  const exponent = ((rounded >>> 23) & 0xff) - 112;
  if (exponent <= 0) return sign;
  if (exponent >= 31) throw new Error(`${value} is no float16`);
  return sign | (exponent << 10) | ((rounded >>> 13) & 0x3ff);
}

function fromBf16(half: number): number {
  return new Float32Array(Uint32Array.of(half << 16).buffer)[0]!;
}

function fromF16(half: number): number {
  const exponent = (half >>> 10) & 31;
  const size = exponent === 0 ? 0 : 2 ** (exponent - 15) * (1 + (half & 0x3ff) / 1024);
  return half & 0x8000 ? -size : size;
}

const halves = { BF16: [toBf16, fromBf16], F16: [toF16, fromF16] } as const;
type Half = keyof typeof halves;

/** The weights in 16 bits, or rounded to them and kept in float32. */
function rounded(folder: string, dtype: Half, keepFloat32: boolean): string {
  const [to, from] = halves[dtype];
  const change = ({ shape, data }: Tensor): Tensor => {
    const count = data.length / 4;
    const made = Buffer.alloc(count * (keepFloat32 ? 4 : 2));
    for (let i = 0; i < count; i++) {
      const half = to(data.readFloatLE(4 * i));
      if (keepFloat32) made.writeFloatLE(from(half), 4 * i);
      else made.writeUInt16LE(half, 2 * i);
    }
    return { dtype: keepFloat32 ? 'F32' : dtype, shape, data: made };
  };
  const tensors = (all: Tensors): void => {
    for (const [name, tensor] of all) if (tensor.dtype === 'F32') all.set(name, change(tensor));
  };
  return alteredModel(folder, { tensors });
}

async function scores(folder: string, prompts = [PROMPT]): Promise<Float32Array[]> {
  await using model = await load(folder);
  await model.generate({ tokens: PROMPT }, { maxTokens: 2 });
  const all: Float32Array[] = [];
  for (const prompt of prompts) all.push(await model.logits(prompt));
  return all;
}

/** The prompts of the reference, each alone and with the answer to it. */
function promptsOf({ golden }: GoldenCase): number[][] {
  return golden.runs.flatMap(({ prompt, greedy }) => [prompt, [...prompt, ...greedy]]);
}

function distance(actual: Float32Array, expected: Float32Array): number {
  const off = Math.max(...actual.map((score, i) => Math.abs(score - expected[i]!)));
  return off / Math.max(...expected.map(Math.abs));
}

describe.each(plain.map((found) => [path.relative(ownGoldens, found.folder), found] as const))(
  '%s',
  (_, found) => {
    it.each(['BF16', 'F16'] as const)('keeps its scores in %s', async (dtype) => {
      const prompts = promptsOf(found);
      const actual = await scores(rounded(found.folder, dtype, false), prompts);
      const expected = await scores(rounded(found.folder, dtype, true), prompts);
      for (const [i, each] of actual.entries()) {
        expect(distance(each, expected[i]!)).toBeLessThanOrEqual(SIXTEEN_BITS);
      }
    });
  },
);

it('keeps its scores in bfloat16 beside a causal mask of booleans', async () => {
  const folder = path.join(ownGoldens, 'gpt2');
  const masked = (float32: boolean): string =>
    alteredModel(rounded(folder, 'BF16', float32), {
      tensors: (all) => {
        const mask = { dtype: 'BOOL', shape: [1, 1, 2, 2], data: Buffer.from([1, 0, 1, 1]) };
        all.set('model.h.0.attn.bias', mask);
      },
    });
  const [[actual], [expected]] = [await scores(masked(false)), await scores(masked(true))];
  expect(distance(actual!, expected!)).toBeLessThanOrEqual(SAME_NUMBERS);
});

describe.each([...families])('%s', (_, { folder }) => {
  it('runs in 4 bits', async () => {
    const [packed, dense] = ['packed', 'dense'].map((name) => path.join(temporaryFolder(), name));
    await cache.convert(folder, packed!, { quantize: 4, groupSize: 32, skipHealth: true });
    await cache.convert(packed!, dense!, { dequantize: true, skipHealth: true });
    const [[actual], [expected]] = [await scores(packed!), await scores(dense!)];
    expect(distance(actual!, expected!)).toBeLessThanOrEqual(SAME_NUMBERS);
  });
});
