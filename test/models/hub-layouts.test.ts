/**
 * Checkpoints as transformers lays them out: experts one by one, gate and up interleaved, filters and matrices
 * transposed, norms less one. Each is made from a golden and gives the golden's scores.
 */

import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { load } from '../../lib/index.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';
import { alteredModel, type Changes, type Tensor, type Tensors } from './altered-model.js';
import { ownGoldens } from './golden-cases.js';

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];
const BYTES: Record<string, number> = { F32: 4, U32: 4, U8: 1 };

afterAll(removeTemporaryFolders);

function product(sizes: number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}

/** Takes a tensor out; a layout that moves one that is not there would test nothing. */
function pull(tensors: Tensors, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`the golden has no tensor ${name}`);
  tensors.delete(name);
  return tensor;
}

/** The parts along the first axis, without it. */
function parts({ dtype, shape, data }: Tensor): Tensor[] {
  const [count, ...rest] = shape as [number, ...number[]];
  const size = data.length / count;
  return Array.from({ length: count }, (_, i) => ({
    dtype,
    shape: rest,
    data: data.subarray(i * size, (i + 1) * size),
  }));
}

function joined(all: Tensor[]): Tensor {
  const { dtype, shape } = all[0]!;
  return { dtype, shape: [all.length, ...shape], data: Buffer.concat(all.map(({ data }) => data)) };
}

/** Its last two axes changed for each other. */
function transposed(tensor: Tensor): Tensor {
  if (tensor.shape.length > 2) return joined(parts(tensor).map(transposed));
  const [rows, columns] = tensor.shape as [number, number];
  const bytes = BYTES[tensor.dtype]!;
  const data = Buffer.alloc(tensor.data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = (row * columns + column) * bytes;
      tensor.data.copy(data, (column * rows + row) * bytes, from, from + bytes);
    }
  }
  return { dtype: tensor.dtype, shape: [columns, rows], data };
}

/** Parts of a and b in turns, along the first axis. */
function interleaved(a: Tensor, b: Tensor): Tensor {
  const seconds = parts(b);
  return joined(parts(a).flatMap((first, i) => [first, seconds[i]!]));
}

function lessOne(tensor: Tensor): Tensor {
  const data = Buffer.from(tensor.data);
  for (let at = 0; at < data.length; at += 4) data.writeFloatLE(data.readFloatLE(at) - 1, at);
  return { ...tensor, data };
}

/** `stacked`.X.weight to `single`.N.Y.weight, for the names X and Y of each projection. */
function oneByOne(tensors: Tensors, stacked: RegExp, names: Record<string, string>): void {
  for (const name of [...tensors.keys()]) {
    const found = stacked.exec(name);
    if (!found) continue;
    const [, scope, projection, leaf] = found;
    for (const [expert, part] of parts(pull(tensors, name)).entries()) {
      tensors.set(`${scope}.experts.${expert}.${names[projection!]}.${leaf}`, part);
    }
  }
}

const STACKED = /^(.*)\.switch_mlp\.(\w+)\.(weight|scales|biases)$/;
const SAME = { gate_proj: 'gate_proj', up_proj: 'up_proj', down_proj: 'down_proj' };

function rename(
  tensors: Tensors,
  pattern: RegExp,
  change: (tensor: Tensor) => Tensor,
  to = '$&',
): void {
  const names = [...tensors.keys()].filter((name) => pattern.test(name));
  if (names.length === 0) throw new Error(`the golden has no tensor like ${pattern}`);
  for (const name of names) tensors.set(name.replace(pattern, to), change(pull(tensors, name)));
}

const asItIs = (tensor: Tensor): Tensor => tensor;

/** gate_proj and up_proj of gpt-oss to gate_up_proj, rows in turns. */
function gptOssExperts(
  tensors: Tensors,
  change: (name: string, tensor: Tensor) => [string, Tensor],
): void {
  for (const name of [...tensors.keys()].filter((key) => /experts\.gate_proj\./.test(key))) {
    const gate = parts(pull(tensors, name));
    const up = parts(pull(tensors, name.replace('gate_proj', 'up_proj')));
    const both = joined(gate.map((expert, i) => interleaved(expert, up[i]!)));
    tensors.set(...change(name.replace('gate_proj', 'gate_up_proj'), both));
  }
  for (const name of [...tensors.keys()].filter((key) => /experts\.down_proj\./.test(key))) {
    tensors.set(...change(name, pull(tensors, name)));
  }
}

const layouts: [string, string, Changes['tensors']][] = [
  [
    'mixtral',
    'experts one by one',
    (t) => oneByOne(t, STACKED, { gate_proj: 'w1', up_proj: 'w3', down_proj: 'w2' }),
  ],
  ['qwen2_moe', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  ['qwen3_moe', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  ['glm4_moe', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  ['deepseek_v3-4bit', 'quantized experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  [
    'deepseek_v3',
    'experts one by one, keys and values from one matrix, a layer that predicts ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      for (const name of [...t.keys()].filter((key) => key.endsWith('embed_q.weight'))) {
        const keys = parts(transposed(pull(t, name)));
        const values = parts(pull(t, name.replace('embed_q', 'unembed_out')));
        const rows = keys.flatMap((head, i) => [...parts(head), ...parts(values[i]!)]);
        t.set(name.replace('embed_q', 'kv_b_proj'), joined(rows));
      }
      t.set('model.layers.2.eh_proj.weight', t.get('model.norm.weight')!);
    },
  ],
  [
    'gpt_oss',
    'gate and up interleaved, matrices transposed',
    (t) =>
      gptOssExperts(t, (name, tensor) =>
        name.endsWith('.bias')
          ? [name.replace('.bias', '_bias'), tensor]
          : [name.replace('.weight', ''), transposed(tensor)],
      ),
  ],
  [
    'gpt_oss-mxfp4',
    'gate and up interleaved, MXFP4 in blocks',
    (t) =>
      gptOssExperts(t, (name, tensor) => {
        if (name.endsWith('.bias')) return [name.replace('.bias', '_bias'), tensor];
        if (name.endsWith('.scales')) return [name.replace('.scales', '_scales'), tensor];
        const [experts, rows, columns] = tensor.shape as [number, number, number];
        const shape = [experts, rows, (columns * 4) / 16, 16];
        return [name.replace('.weight', '_blocks'), { dtype: 'U8', shape, data: tensor.data }];
      }),
  ],
  ['lfm2', 'filters as PyTorch has them', (t) => rename(t, /conv\.conv\.weight$/, transposed)],
  [
    'qwen3_next',
    'experts one by one, filters as PyTorch has them, norms less one, layers that predict ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      rename(t, /conv1d\.weight$/, transposed);
      rename(t, /(layernorm|model\.norm|[qk]_norm)\.weight$/, lessOne);
      t.set('mtp.norm.weight', t.get('model.norm.weight')!);
    },
  ],
  [
    'gpt2',
    'matrices transposed, no prefix, the causal mask along',
    (t) => {
      rename(t, /(c_attn|c_proj|c_fc)\.weight$/, transposed);
      rename(t, /^model\./, asItIs, '');
      t.set('h.0.attn.bias', { dtype: 'F32', shape: [1, 1, 2, 2], data: Buffer.alloc(16) });
    },
  ],
];

describe('a checkpoint as transformers lays it out', () => {
  it.each(layouts)('%s: %s', async (name, _what, tensors) => {
    const good = path.join(ownGoldens, name);
    await using model = await load(alteredModel(good, { tensors: tensors! }));
    await using plain = await load(good);
    const scores = await model.logits(PROMPT);
    const expected = await plain.logits(PROMPT); // what goldens.test.ts compares with mlx-lm
    const distance = scores.map((score, i) => Math.abs(score - expected[i]!));
    expect(Math.max(...distance)).toBeLessThanOrEqual(1e-5 * Math.max(...expected.map(Math.abs)));
  });
});

describe('the layouts of this file', () => {
  it('keep every byte', () => {
    const tensor = {
      dtype: 'F32',
      shape: [2, 3, 5],
      data: Buffer.from(Float32Array.from({ length: 30 }, (_, i) => i).buffer),
    };
    expect(transposed(transposed(tensor))).toEqual(tensor);
    expect(transposed(tensor).shape).toEqual([2, 5, 3]);
    expect(product(interleaved(tensor, tensor).shape)).toBe(60);
  });
});
