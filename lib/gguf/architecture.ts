/**
 * From the metadata and names of a GGUF file to config.json and the names of a transformers checkpoint, for the llama,
 * mistral, qwen and gemma families. References: llama.cpp, gguf-py/gguf/constants.py and convert_hf_to_gguf.py, which
 * also tell what was done to the weights: llama's query and key rows are reordered, gemma's norms are one larger.
 */

import { MlxkError } from '../errors.js';
import type { GgufFile, GgufValue } from './reader.js';

interface Architecture {
  /** `model_type`, or what decides it. */
  readonly modelType: (metadata: Metadata) => string;
  /** Members of config.json beyond the usual ones. */
  readonly config: (metadata: Metadata, names: ReadonlySet<string>) => Record<string, unknown>;
  /** Names of a layer's norms that differ from the usual ones. */
  readonly norms?: Readonly<Record<string, string>>;
  /** Where the experts are in a layer. */
  readonly experts?: string;
  readonly rotatesInterleaved?: boolean;
  readonly normsAreOneLarger?: boolean;
}

const GEMMA_NORMS = {
  post_attention_norm: 'post_attention_layernorm',
  ffn_norm: 'pre_feedforward_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
};

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: {
    modelType: (m) => (m.optional('expert_count') === undefined ? 'llama' : 'mixtral'),
    config: (m) =>
      m.optional('expert_count') === undefined
        ? {}
        : {
            num_local_experts: m.whole('expert_count'),
            num_experts_per_tok: m.whole('expert_used_count'),
          },
    experts: 'block_sparse_moe',
    rotatesInterleaved: true,
  },
  qwen2: { modelType: () => 'qwen2', config: () => ({}) },
  qwen3: { modelType: () => 'qwen3', config: () => ({}) },
  qwen3moe: {
    modelType: () => 'qwen3_moe',
    config: (m, names) => ({
      num_experts: m.whole('expert_count'),
      num_experts_per_tok: m.whole('expert_used_count'),
      moe_intermediate_size: m.whole('expert_feed_forward_length'),
      norm_topk_prob: true,
      decoder_sparse_step: 1,
      mlp_only_layers: Array.from({ length: m.whole('block_count') }, (_, layer) => layer).filter(
        (layer) => names.has(`blk.${layer}.ffn_gate.weight`),
      ),
    }),
    experts: 'mlp',
  },
  gemma: { modelType: () => 'gemma', config: () => ({}), normsAreOneLarger: true },
  gemma2: {
    modelType: () => 'gemma2',
    config: (m) => ({
      attn_logit_softcapping: m.number('attn_logit_softcapping', 50),
      final_logit_softcapping: m.number('final_logit_softcapping', 30),
      sliding_window: m.whole('attention.sliding_window', 4096),
      // 27B alone scales by the width of a head's share of the layer.
      query_pre_attn_scalar: m.whole('block_count') === 46 ? headShare(m) : headDim(m),
    }),
    norms: GEMMA_NORMS,
    normsAreOneLarger: true,
  },
  gemma3: {
    modelType: () => 'gemma3_text',
    config: (m) => ({
      sliding_window: m.whole('attention.sliding_window', 1024),
      sliding_window_pattern: 6,
      rope_local_base_freq: 10_000,
      query_pre_attn_scalar: m.whole('block_count') === 62 ? headShare(m) : headDim(m),
    }),
    norms: GEMMA_NORMS,
    normsAreOneLarger: true,
  },
};

/** How one tensor of the file becomes one of the checkpoint. */
export interface TensorMapping {
  readonly name: string;
  readonly interleavedHeads?: number;
  /** Added to every number. */
  readonly add?: number;
}

export class GgufModel {
  readonly #architecture: Architecture;
  readonly #metadata: Metadata;
  readonly #file: GgufFile;

  /** @throws MlxkError `not_implemented` / `architecture_unsupported`. */
  constructor(file: GgufFile, label: string) {
    const name = file.metadata.get('general.architecture');
    const architecture = typeof name === 'string' ? ARCHITECTURES[name] : undefined;
    if (typeof name !== 'string' || architecture === undefined) {
      const known = Object.keys(ARCHITECTURES).join(', ');
      throw new MlxkError(
        'not_implemented',
        `${label}: the architecture ${JSON.stringify(name ?? null)} is not converted from GGUF; known: ${known}`,
        { reason: 'architecture_unsupported', detail: { architecture: name ?? null } },
      );
    }
    this.#file = file;
    this.#architecture = architecture;
    this.#metadata = new Metadata(file.metadata, name, label);
  }

  /** Content of config.json. @param llama3Factor how far the rotation was stretched, where it was in llama 3's way */
  config(llama3Factor: number | undefined): Record<string, unknown> {
    const m = this.#metadata;
    const names = new Set(this.#file.tensors.map(({ name }) => name));
    const embedding = this.#file.tensors.find(({ name }) => name === 'token_embd.weight');
    const type = this.#architecture.modelType(m);
    const bias = names.has('blk.0.attn_q.bias');
    return {
      model_type: type,
      hidden_size: m.whole('embedding_length'),
      num_hidden_layers: m.whole('block_count'),
      intermediate_size: m.whole('feed_forward_length', m.optional('expert_feed_forward_length')),
      num_attention_heads: m.whole('attention.head_count'),
      num_key_value_heads: m.whole('attention.head_count_kv', m.whole('attention.head_count')),
      head_dim: headDim(m),
      rms_norm_eps: m.number('attention.layer_norm_rms_epsilon'),
      rope_theta: m.number('rope.freq_base', 10_000),
      max_position_embeddings: m.whole('context_length'),
      vocab_size: embedding?.shape[0] ?? 0,
      tie_word_embeddings: !names.has('output.weight'),
      ...(bias && !type.startsWith('qwen2') && { attention_bias: true }),
      ...ropeScaling(m, llama3Factor),
      ...this.#architecture.config(m, names),
      ...ids(this.#file.metadata),
      torch_dtype: this.#file.tensors.some(({ encoding }) => encoding === 'BF16')
        ? 'bfloat16'
        : 'float16',
    };
  }

  /** The name of a tensor in the checkpoint. @throws MlxkError `not_implemented` / `tensor_unknown`. */
  map(name: string): TensorMapping {
    const top = TOP_LEVEL[name];
    const { normsAreOneLarger, rotatesInterleaved, norms, experts } = this.#architecture;
    const larger = (mapped: string): TensorMapping =>
      normsAreOneLarger === true && mapped.endsWith('norm.weight')
        ? { name: mapped, add: -1 }
        : { name: mapped };
    if (top !== undefined) return larger(top);
    const [, layer, part = '', kind] = /^blk\.(\d+)\.([a-z_]+)\.(weight|bias)$/.exec(name) ?? [];
    const renamed = norms?.[part] ?? EXPERTS[part]?.replace('*', experts ?? 'mlp') ?? LAYER[part];
    if (layer === undefined || kind === undefined || renamed === undefined) {
      throw new MlxkError('not_implemented', `tensor "${name}" has no place in this architecture`, {
        reason: 'tensor_unknown',
        detail: { tensor: name },
      });
    }
    const full = `model.layers.${layer}.${renamed}.${kind}`;
    const rotated =
      part === 'attn_q'
        ? 'attention.head_count'
        : part === 'attn_k'
          ? 'attention.head_count_kv'
          : undefined;
    if (rotatesInterleaved === true && rotated !== undefined) {
      const heads = this.#metadata.whole('attention.head_count');
      return { name: full, interleavedHeads: this.#metadata.whole(rotated, heads) };
    }
    return larger(full);
  }
}

const TOP_LEVEL: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};

const LAYER: Readonly<Record<string, string>> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const EXPERTS: Readonly<Record<string, string>> = {
  ffn_gate_inp: '*.gate',
  ffn_gate_exps: '*.switch_mlp.gate_proj',
  ffn_up_exps: '*.switch_mlp.up_proj',
  ffn_down_exps: '*.switch_mlp.down_proj',
};

/** Members of one architecture, with types and ranges checked. */
class Metadata {
  readonly #values: ReadonlyMap<string, GgufValue>;
  readonly #prefix: string;
  readonly #label: string;

  constructor(values: ReadonlyMap<string, GgufValue>, prefix: string, label: string) {
    this.#values = values;
    this.#prefix = prefix;
    this.#label = label;
  }

  optional(key: string): GgufValue | undefined {
    return this.#values.get(`${this.#prefix}.${key}`);
  }

  number(key: string, fallback?: GgufValue): number {
    const value = this.optional(key) ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
    const what = value === undefined ? 'is missing' : 'is no positive number';
    throw new MlxkError('validation_error', `${this.#label}: ${this.#prefix}.${key} ${what}`, {
      reason: 'gguf_invalid',
      detail: { key: `${this.#prefix}.${key}` },
    });
  }

  whole(key: string, fallback?: GgufValue): number {
    const value = this.number(key, fallback);
    if (Number.isSafeInteger(value)) return value;
    throw new MlxkError(
      'validation_error',
      `${this.#label}: ${this.#prefix}.${key} is no whole number`,
      {
        reason: 'gguf_invalid',
        detail: { key: `${this.#prefix}.${key}` },
      },
    );
  }
}

function headShare(m: Metadata): number {
  return m.whole('embedding_length') / m.whole('attention.head_count');
}

function headDim(m: Metadata): number {
  return m.whole('attention.key_length', headShare(m));
}

function ropeScaling(m: Metadata, llama3Factor: number | undefined): Record<string, unknown> {
  if (llama3Factor !== undefined) {
    return { rope_scaling: { rope_type: 'llama3', factor: llama3Factor, ...LLAMA3 } };
  }
  const type = m.optional('rope.scaling.type');
  if (type === undefined || type === 'none') return {};
  if (type !== 'linear' && type !== 'yarn') {
    throw new MlxkError(
      'not_implemented',
      `rope scaling ${JSON.stringify(type)} is not converted from GGUF`,
      {
        reason: 'rope_unsupported',
        detail: { type },
      },
    );
  }
  const factor = m.number('rope.scaling.factor');
  const original = m.optional('rope.scaling.original_context_length');
  return {
    rope_scaling: {
      rope_type: type,
      factor,
      ...(type === 'yarn' &&
        original !== undefined && { original_max_position_embeddings: original }),
    },
  };
}

/** What every llama 3 model was made with. */
const LLAMA3 = {
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
} as const;

/**
 * The factor of llama 3's rope scaling behind a table of divisors, as `rope_freqs.weight` has it.
 *
 * @throws MlxkError `not_implemented` / `rope_unsupported` when the table is another one.
 */
export function llama3Factor(table: Float32Array, ropeTheta: number): number {
  const factor = Math.max(...table);
  const {
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: length,
  } = LLAMA3;
  const fits = table.every((divisor, index) => {
    const wavelength = 2 * Math.PI * ropeTheta ** (index / table.length);
    const smooth = (length / wavelength - low) / (high - low);
    const expected =
      wavelength < length / high
        ? 1
        : wavelength > length / low
          ? factor
          : 1 / ((1 - smooth) / factor + smooth);
    return Math.abs(divisor - expected) <= 1e-3 * expected;
  });
  if (fits && Number.isFinite(factor)) return factor;
  throw new MlxkError(
    'not_implemented',
    'rope_freqs.weight is a table of another kind than llama 3\u2019s',
    {
      reason: 'rope_unsupported',
    },
  );
}

function ids(metadata: ReadonlyMap<string, GgufValue>): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name of ['bos', 'eos', 'pad']) {
    const key = name === 'pad' ? 'padding' : name;
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    if (typeof id === 'number') found[`${name}_token_id`] = id;
  }
  return found;
}
