/**
 * Every family in the number formats that checkpoints come in: 16-bit floats give what float32 gives of the same rounded
 * weights, within what computing in 16 bits costs, and a 4-bit model gives what its own dequantized weights give.
 */

import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { cache, load } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { alteredModel, type Tensor, type Tensors } from './altered-model.js';
import { goldenCases, type GoldenCase, ownGoldens } from './golden-cases.js';

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];
const SIXTEEN_BITS = 3e-2; // of the largest score
/**
 * Where bfloat16 costs more on these toys. Of gemma4 mlx-lm itself is 8.2e-2 and 9.3e-2 from its float32, of
 * recurrent_gemma 6.1e-2, of afm7 8.5e-2, of muse_glimmer's golden 1.2e-1; helium's is 3.1e-2 by MLX's own operations;
 * the others are mixtures, whose choice of experts turns with the rounding, and which mlx-lm cannot run in 16 bits on a
 * CPU.
 */
const BFLOAT16: Record<string, number> = {
  afm7: 1e-1,
  bailing_hybrid: 4e-2,
  deepseek_v3: 6e-2,
  deepseek_v32: 6e-2,
  gemma4: 8e-2,
  gemma4_text: 9e-2,
  gemma4_unified: 8e-2,
  gpt_oss: 7e-2,
  helium: 4e-2,
  jamba: 7e-2,
  kimi_k3: 7e-2,
  kimi_linear: 6e-2,
  minimax_m3_vl: 6e-2,
  mistral4: 6e-2,
  muse_glimmer: 9e-2,
  recurrent_gemma: 9e-2,
};
const SAME_NUMBERS = 1e-3;

/** The first float32 case of every model_type. */
const families = new Map<string, GoldenCase>();
for (const found of goldenCases(ownGoldens)) {
  const { golden, adapter } = found;
  const plain = golden.weights === 'float32' && golden.quantize == null && adapter === undefined;
  if (plain && !families.has(golden.model_type)) families.set(golden.model_type, found);
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

async function scores(folder: string): Promise<Float32Array> {
  await using model = await load(folder);
  await model.generate({ tokens: PROMPT }, { maxTokens: 2 });
  return await model.logits(PROMPT);
}

function distance(actual: Float32Array, expected: Float32Array): number {
  const off = Math.max(...actual.map((score, i) => Math.abs(score - expected[i]!)));
  return off / Math.max(...expected.map(Math.abs));
}

describe.each([...families])('%s', (type, { folder }) => {
  it.each(['BF16', 'F16'] as const)('runs in %s', async (dtype) => {
    const [actual, expected] = [false, true].map((wide) => scores(rounded(folder, dtype, wide)));
    expect(distance(await actual!, await expected!)).toBeLessThanOrEqual(
      (dtype === 'BF16' ? BFLOAT16[type] : undefined) ?? SIXTEEN_BITS,
    );
  });

  it('runs in 4 bits', async () => {
    const [packed, dense] = ['packed', 'dense'].map((name) => path.join(temporaryFolder(), name));
    await cache.convert(folder, packed!, { quantize: 4, groupSize: 32, skipHealth: true });
    await cache.convert(packed!, dense!, { dequantize: true, skipHealth: true });
    expect(distance(await scores(packed!), await scores(dense!))).toBeLessThanOrEqual(SAME_NUMBERS);
  });
});
