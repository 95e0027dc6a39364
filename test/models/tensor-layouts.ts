/**
 * The steps from the tensors of a golden to the layout of another checkpoint. Knows tensors only; which architecture
 * wants which layout is said by the tests.
 */

import path from 'node:path';

import { expect } from 'vitest';

import { load } from '../../lib/index.js';
import { alteredModel, type Changes, type Tensor, type Tensors } from './altered-model.js';
import { ownGoldens } from './golden-cases.js';

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];
const BYTES: Record<string, number> = { F32: 4, U32: 4, U8: 1 };

export function product(sizes: number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}

/** Takes a tensor out; a layout that moves one that is not there would test nothing. */
export function pull(tensors: Tensors, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`the golden has no tensor ${name}`);
  tensors.delete(name);
  return tensor;
}

/** The parts along the first axis, without it. */
export function parts({ dtype, shape, data }: Tensor): Tensor[] {
  const [count, ...rest] = shape as [number, ...number[]];
  const size = data.length / count;
  return Array.from({ length: count }, (_, i) => ({
    dtype,
    shape: rest,
    data: data.subarray(i * size, (i + 1) * size),
  }));
}

export function joined(all: Tensor[]): Tensor {
  const { dtype, shape } = all[0]!;
  return { dtype, shape: [all.length, ...shape], data: Buffer.concat(all.map(({ data }) => data)) };
}

/** Its last two axes changed for each other. */
export function transposed(tensor: Tensor): Tensor {
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
export function interleaved(a: Tensor, b: Tensor): Tensor {
  const seconds = parts(b);
  return joined(parts(a).flatMap((first, i) => [first, seconds[i]!]));
}

export function lessOne(tensor: Tensor): Tensor {
  const data = Buffer.from(tensor.data);
  for (let at = 0; at < data.length; at += 4) data.writeFloatLE(data.readFloatLE(at) - 1, at);
  return { ...tensor, data };
}

/** `stacked`.X.weight to `single`.N.Y.weight, for the names X and Y of each projection. */
export function oneByOne(tensors: Tensors, stacked: RegExp, names: Record<string, string>): void {
  for (const name of [...tensors.keys()]) {
    const found = stacked.exec(name);
    if (!found) continue;
    const [, scope, projection, leaf] = found;
    for (const [expert, part] of parts(pull(tensors, name)).entries()) {
      tensors.set(`${scope}.experts.${expert}.${names[projection!]}.${leaf}`, part);
    }
  }
}

export const STACKED = /^(.*)\.switch_mlp\.(\w+)\.(weight|scales|biases)$/;
export const SAME = { gate_proj: 'gate_proj', up_proj: 'up_proj', down_proj: 'down_proj' };

export function rename(
  tensors: Tensors,
  pattern: RegExp,
  change: (tensor: Tensor) => Tensor,
  to = '$&',
): void {
  const names = [...tensors.keys()].filter((name) => pattern.test(name));
  if (names.length === 0) throw new Error(`the golden has no tensor like ${pattern}`);
  for (const name of names) tensors.set(name.replace(pattern, to), change(pull(tensors, name)));
}

export const asItIs = (tensor: Tensor): Tensor => tensor;

/** embed_q and unembed_out of latent attention to kv_b_proj. */
export function keysWithValues(tensors: Tensors): void {
  for (const name of [...tensors.keys()].filter((key) => key.endsWith('embed_q.weight'))) {
    const keys = parts(transposed(pull(tensors, name)));
    const values = parts(pull(tensors, name.replace('embed_q', 'unembed_out')));
    const rows = keys.flatMap((head, i) => [...parts(head), ...parts(values[i]!)]);
    tensors.set(name.replace('embed_q', 'kv_b_proj'), joined(rows));
  }
}

/** Each number times `factor`. */
export function scaled(tensor: Tensor, factor: number): Tensor {
  const data = Buffer.from(tensor.data);
  for (let at = 0; at < data.length; at += 4) data.writeFloatLE(data.readFloatLE(at) * factor, at);
  return { ...tensor, data };
}

/** The same bytes of another shape. */
export const shaped = (tensor: Tensor, shape: number[]): Tensor => ({ ...tensor, shape });

/** One tensor of all along the first axis. */
export function concatenated(...all: Tensor[]): Tensor {
  const { dtype, shape } = all[0]!;
  const rows = all.reduce((sum, tensor) => sum + tensor.shape[0]!, 0);
  return {
    dtype,
    shape: [rows, ...shape.slice(1)],
    data: Buffer.concat(all.map(({ data }) => data)),
  };
}

/** The golden so altered gives the scores of the golden itself, which goldens.test.ts compares with mlx-lm. */
export async function expectSameScores(name: string, tensors: Changes['tensors']): Promise<void> {
  const good = path.join(ownGoldens, name);
  await using model = await load(alteredModel(good, { tensors: tensors! }));
  await using plain = await load(good);
  const scores = await model.logits(PROMPT);
  const expected = await plain.logits(PROMPT);
  const distance = scores.map((score, i) => Math.abs(score - expected[i]!));
  expect(Math.max(...distance)).toBeLessThanOrEqual(1e-5 * Math.max(...expected.map(Math.abs)));
}

/** gate_proj and up_proj of a layer's experts to one gate_up_proj, [experts, rows of both, columns]. */
export function gateBesideUp(tensors: Tensors, module: string): void {
  const stacked = `.${module}.gate_proj.weight`;
  for (const name of [...tensors.keys()].filter((key) => key.endsWith(stacked))) {
    const gate = parts(pull(tensors, name));
    const up = parts(pull(tensors, name.replace('gate_proj', 'up_proj')));
    const both = joined(gate.map((one, i) => joined([...parts(one), ...parts(up[i]!)])));
    tensors.set(name.replace(stacked, '.gate_up_proj'), both);
  }
}

/** gate_proj and up_proj of every expert to one tensor, gate first, and down_proj: under the names given. */
export function fused(
  tensors: Tensors,
  experts: string,
  names: [string, string],
  change = asItIs,
): void {
  for (const name of [...tensors.keys()].filter((key) =>
    key.endsWith(`${experts}.gate_proj.weight`),
  )) {
    const scope = name.slice(0, -`${experts}.gate_proj.weight`.length);
    const ups = parts(pull(tensors, name.replace('gate_proj', 'up_proj')));
    const both = parts(pull(tensors, name)).map((gate, i) => concatenated(gate, ups[i]!));
    tensors.set(scope + names[0], change(joined(both)));
    tensors.set(scope + names[1], change(pull(tensors, name.replace('gate_proj', 'down_proj'))));
  }
}
