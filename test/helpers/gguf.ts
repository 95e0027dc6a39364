/**
 * Writes GGUF files, and turns reference models into such as llama.cpp's converter makes.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';

import { readHeader } from '../../lib/convert/source.js';

/** A typed value: GGUF has eight kinds of numbers. */
export type Value =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { text: string }
  | { texts: readonly string[] }
  | { f32s: readonly number[] }
  | { i32s: readonly number[] };

export interface Tensor {
  readonly name: string;
  /** Row-major: the last axis is contiguous. */
  readonly shape: readonly number[];
  /** ggml's number of the encoding; 0 is float32. */
  readonly type: number;
  readonly data: Buffer;
}

const ALIGNMENT = 32;

export function gguf(
  metadata: Readonly<Record<string, Value>>,
  tensors: readonly Tensor[],
): Buffer {
  const parts = [u32(0x46554747), u32(3), u64(tensors.length), u64(Object.keys(metadata).length)];
  for (const [key, value] of Object.entries(metadata)) parts.push(text(key), ...encoded(value));
  let offset = 0;
  for (const { name, shape, type, data } of tensors) {
    const dims = [...shape].reverse().map(u64);
    parts.push(text(name), u32(shape.length), ...dims, u32(type), u64(offset));
    offset += data.length + padding(data.length);
  }
  const head = Buffer.concat(parts);
  const bodies = tensors.flatMap(({ data }) => [data, Buffer.alloc(padding(data.length))]);
  return Buffer.concat([head, Buffer.alloc(padding(head.length)), ...bodies]);
}

const padding = (length: number): number => (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;

function encoded(value: Value): Buffer[] {
  if ('u32' in value) return [u32(4), u32(value.u32)];
  if ('f32' in value) return [u32(6), f32(value.f32)];
  if ('bool' in value) return [u32(7), Buffer.from([value.bool ? 1 : 0])];
  if ('text' in value) return [u32(8), text(value.text)];
  if ('texts' in value) return [u32(9), u32(8), u64(value.texts.length), ...value.texts.map(text)];
  if ('f32s' in value) return [u32(9), u32(6), u64(value.f32s.length), ...value.f32s.map(f32)];
  return [u32(9), u32(5), u64(value.i32s.length), ...value.i32s.map((n) => u32(n))];
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

/** GGUF name of a tensor of a layer, the longest first. */
const LAYER: readonly (readonly [string, string])[] = [
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['mlp.gate', 'ffn_gate_inp'],
  ['block_sparse_moe.gate', 'ffn_gate_inp'],
  ['mlp.switch_mlp.gate_proj', 'ffn_gate_exps'],
  ['mlp.switch_mlp.up_proj', 'ffn_up_exps'],
  ['mlp.switch_mlp.down_proj', 'ffn_down_exps'],
  ['block_sparse_moe.switch_mlp.gate_proj', 'ffn_gate_exps'],
  ['block_sparse_moe.switch_mlp.up_proj', 'ffn_up_exps'],
  ['block_sparse_moe.switch_mlp.down_proj', 'ffn_down_exps'],
  ['input_layernorm', 'attn_norm'],
];
const USUAL_NORMS = [['post_attention_layernorm', 'ffn_norm']] as const;
const GEMMA_NORMS = [
  ['post_attention_layernorm', 'post_attention_norm'],
  ['pre_feedforward_layernorm', 'ffn_norm'],
  ['post_feedforward_layernorm', 'post_ffw_norm'],
] as const;

export interface ReferenceModel {
  readonly architecture: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: readonly Tensor[];
}

/**
 * A float32 reference model under GGUF's names, with what llama.cpp's converter does to its numbers: query and key
 * rows of llama reordered, norms of gemma raised by one.
 */
export async function referenceModel(
  folder: string,
  architecture: string,
): Promise<ReferenceModel> {
  const file = path.join(folder, 'model.safetensors');
  const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  const bytes = readFileSync(file);
  const heads = Number(config['num_attention_heads']);
  const keyHeads = Number(config['num_key_value_heads'] ?? heads);
  const tensors = (await readHeader(file)).map(({ name, shape, begin, bytes: length }) => {
    const data = Buffer.from(bytes.subarray(begin, begin + length));
    const renamed = ggufName(name, architecture);
    const rotated = /\.attn_(q|k)\.weight$/.exec(renamed)?.[1];
    const isNorm = /norm\.weight$/.test(renamed) && architecture.startsWith('gemma');
    const changed =
      architecture === 'llama' && rotated !== undefined
        ? interleaved(data, rotated === 'q' ? heads : keyHeads, shape)
        : isNorm
          ? raised(data)
          : data;
    return { name: renamed, shape, type: 0, data: changed };
  });
  return { architecture, config, tensors };
}

function ggufName(name: string, architecture: string): string {
  const top: Record<string, string> = {
    'model.embed_tokens.weight': 'token_embd.weight',
    'model.norm.weight': 'output_norm.weight',
    'lm_head.weight': 'output.weight',
  };
  const known = top[name];
  if (known !== undefined) return known;
  const [, layer = '', rest = '', kind = ''] =
    /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const norms = /^gemma[23]/.test(architecture) ? GEMMA_NORMS : USUAL_NORMS;
  const part = [...LAYER, ...norms].find(([from]) => from === rest)?.[1];
  if (part === undefined) throw new Error(`no GGUF name for ${name}`);
  return `blk.${layer}.${part}.${kind}`;
}

/** llama.cpp's `permute`: [heads, 2, half, columns] to [heads, half, 2, columns]. */
function interleaved(data: Buffer, heads: number, shape: readonly number[]): Buffer {
  const rows = shape[0]!;
  const rowBytes = data.length / rows;
  const half = rows / heads / 2;
  const out = Buffer.alloc(data.length);
  for (let head = 0; head < heads; head++) {
    for (let side = 0; side < 2; side++) {
      for (let row = 0; row < half; row++) {
        const from = (head * 2 + side) * half + row;
        const to = head * 2 * half + row * 2 + side;
        data.copy(out, to * rowBytes, from * rowBytes, (from + 1) * rowBytes);
      }
    }
  }
  return out;
}

function raised(data: Buffer): Buffer {
  const out = Buffer.alloc(data.length);
  for (let at = 0; at < data.length; at += 4) out.writeFloatLE(data.readFloatLE(at) + 1, at);
  return out;
}

/** What llama.cpp's converter writes of a model's config. */
export function metadataOf({ architecture, config }: ReferenceModel): Record<string, Value> {
  const number = (name: string): number => Number(config[name]);
  const metadata: Record<string, Value> = {
    'general.architecture': { text: architecture },
    'general.alignment': { u32: ALIGNMENT },
    block_count: { u32: number('num_hidden_layers') },
    context_length: { u32: number('max_position_embeddings') },
    embedding_length: { u32: number('hidden_size') },
    feed_forward_length: { u32: number('intermediate_size') },
    'attention.head_count': { u32: number('num_attention_heads') },
    'attention.head_count_kv': { u32: number('num_key_value_heads') },
    'attention.layer_norm_rms_epsilon': { f32: number('rms_norm_eps') },
    'rope.freq_base': { f32: number('rope_theta') },
    ...optionalFloat(config, 'attn_logit_softcapping'),
    ...optionalFloat(config, 'final_logit_softcapping'),
    ...optional(config, 'head_dim', 'attention.key_length'),
    ...optional(config, 'sliding_window', 'attention.sliding_window'),
    ...optional(config, 'num_experts', 'expert_count'),
    ...optional(config, 'num_local_experts', 'expert_count'),
    ...optional(config, 'num_experts_per_tok', 'expert_used_count'),
    ...optional(config, 'moe_intermediate_size', 'expert_feed_forward_length'),
  };
  return Object.fromEntries(
    Object.entries(metadata).map(([key, value]) => [
      key.startsWith('general.') ? key : `${architecture}.${key}`,
      value,
    ]),
  );
}

function optionalFloat(
  config: Readonly<Record<string, unknown>>,
  name: string,
): Record<string, Value> {
  const value = config[name];
  return typeof value === 'number' ? { [name]: { f32: value } } : {};
}

function optional(
  config: Readonly<Record<string, unknown>>,
  name: string,
  key: string,
): Record<string, Value> {
  const value = config[name];
  return typeof value === 'number' ? { [key]: { u32: value } } : {};
}
