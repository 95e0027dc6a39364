/**
 * A llama of a few hundred kilobytes with random, repeatable weights, written to a temporary folder. What it says
 * means nothing; that it says the same each time is what tests build on.
 */

import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { generator } from './random.js';
import { temporaryFolder } from './temporary.js';

export const VOCAB_SIZE = 320;
export const CONTEXT_LENGTH = 4096;

const HIDDEN = 64;
const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = HIDDEN / HEADS;
const MLP = 96;
const LAYERS = 2;

export const SMALL_CONFIG = {
  model_type: 'llama',
  hidden_size: HIDDEN,
  num_hidden_layers: LAYERS,
  intermediate_size: MLP,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  rms_norm_eps: 1e-5,
  vocab_size: VOCAB_SIZE,
  rope_theta: 10_000,
  max_position_embeddings: CONTEXT_LENGTH,
  tie_word_embeddings: true,
} as const;

/** Folder with config.json and model.safetensors: a model without tokenizer. */
export function smallModelFolder(): string {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(SMALL_CONFIG));
  writeFileSync(path.join(folder, 'model.safetensors'), weights());
  return folder;
}

let made: Buffer | undefined;

function weights(): Buffer {
  made ??= safetensors(tensors());
  return made;
}

type Shape = readonly [number] | readonly [number, number];

function tensors(): Map<string, Shape> {
  const shapes = new Map<string, Shape>([
    ['model.embed_tokens.weight', [VOCAB_SIZE, HIDDEN]],
    ['model.norm.weight', [HIDDEN]],
  ]);
  for (let layer = 0; layer < LAYERS; layer++) {
    const name = `model.layers.${layer}`;
    shapes.set(`${name}.input_layernorm.weight`, [HIDDEN]);
    shapes.set(`${name}.post_attention_layernorm.weight`, [HIDDEN]);
    shapes.set(`${name}.self_attn.q_proj.weight`, [HIDDEN, HIDDEN]);
    shapes.set(`${name}.self_attn.k_proj.weight`, [KV_HEADS * HEAD_DIM, HIDDEN]);
    shapes.set(`${name}.self_attn.v_proj.weight`, [KV_HEADS * HEAD_DIM, HIDDEN]);
    shapes.set(`${name}.self_attn.o_proj.weight`, [HIDDEN, HIDDEN]);
    shapes.set(`${name}.mlp.gate_proj.weight`, [MLP, HIDDEN]);
    shapes.set(`${name}.mlp.up_proj.weight`, [MLP, HIDDEN]);
    shapes.set(`${name}.mlp.down_proj.weight`, [HIDDEN, MLP]);
  }
  return shapes;
}

function safetensors(shapes: Map<string, Shape>): Buffer {
  const random = generator(20_240_607);
  const header: Record<string, object> = {};
  const parts: Buffer[] = [];
  let offset = 0;
  for (const [name, shape] of shapes) {
    const count = shape.reduce((product, size) => product * size, 1);
    const isNorm = shape.length === 1;
    const values = Float32Array.from({ length: count }, () =>
      isNorm ? 1 : 0.6 * (random() - 0.5),
    );
    parts.push(Buffer.from(values.buffer));
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + 4 * count] };
    offset += 4 * count;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...parts]);
}
