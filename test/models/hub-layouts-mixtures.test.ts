/**
 * Mixtures as their original checkpoints lay them out: experts one by one or all in two tensors, parts under other
 * names, language models within multimodal checkpoints, layers that predict ahead. Each is made from a golden and gives
 * the golden's scores.
 */

import { afterAll, describe, it } from 'vitest';

import { removeTemporaryFolders } from '../helpers/temporary.js';
import type { Changes, Tensor, Tensors } from './altered-model.js';
import {
  asItIs,
  concatenated,
  expectSameScores,
  fused,
  joined,
  keysWithValues,
  lessOne,
  oneByOne,
  parts,
  pull,
  rename,
  SAME,
  shaped,
  STACKED,
  transposed,
} from './tensor-layouts.js';

afterAll(removeTemporaryFolders);

const NUMBERED = { gate_proj: 'w1', up_proj: 'w3', down_proj: 'w2' };
const WITH_BIAS = /^(.*)\.switch_mlp\.(\w+)\.(weight|bias)$/;
const UNDER_EXPERTS = /^(.*)\.experts\.(gate_proj|up_proj|down_proj)\.(weight|bias)$/;

/** A tensor that nothing uses. */
const any: Tensor = { dtype: 'F32', shape: [1], data: Buffer.alloc(4) };

/** The shared expert behind the routed ones, gate and up of all in one tensor. */
function sharedBehind(tensors: Tensors): void {
  for (const name of [...tensors.keys()].filter((key) => key.includes('.shared_experts.'))) {
    const routed = name.replace('shared_experts', 'switch_mlp');
    tensors.set(routed, joined([...parts(pull(tensors, routed)), pull(tensors, name)]));
  }
  fused(tensors, 'switch_mlp', ['switch_mlp.gate_up_proj.weight', 'switch_mlp.down_proj.weight']);
}

/** q_proj, k_proj and v_proj to qkv_proj, a key head with its queries after the other. */
function grouped(tensors: Tensors, heads: number): void {
  for (const name of [...tensors.keys()].filter((key) => key.endsWith('k_proj.weight'))) {
    const all = ['q_proj', 'k_proj', 'v_proj'].map((part) => {
      const tensor = pull(tensors, name.replace('k_proj', part));
      const [rows, columns] = tensor.shape as [number, number];
      return parts(shaped(tensor, [heads, rows / heads, columns]));
    });
    const groups = all[0]!.map((_, head) => concatenated(...all.map((part) => part[head]!)));
    tensors.set(name.replace('k_proj', 'qkv_proj'), concatenated(...groups));
  }
}

/** The experts of DBRX one below the other, in two tensors as they are and one transposed. */
function below(tensors: Tensors): void {
  for (const name of [...tensors.keys()].filter((key) => key.endsWith('experts.0.w1.weight'))) {
    for (const [part, change] of [
      ['w1', asItIs],
      ['v1', asItIs],
      ['w2', transposed],
    ] as const) {
      const experts = [0, 1, 2, 3, 4, 5].map((expert) =>
        change(pull(tensors, name.replace('0.w1', `${expert}.${part}`))),
      );
      tensors.set(name.replace('0.w1.weight', `mlp.${part}`), concatenated(...experts));
    }
  }
}

const layouts: [string, string, Changes['tensors']][] = [
  ['minimax', 'experts one by one', (t) => oneByOne(t, STACKED, NUMBERED)],
  ['phimoe', 'experts one by one', (t) => oneByOne(t, STACKED, NUMBERED)],
  ['deepseek', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  ['mellum', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  ['olmoe', 'experts one by one, with biases', (t) => oneByOne(t, WITH_BIAS, SAME)],
  ['dots1', 'experts one by one', (t) => oneByOne(t, UNDER_EXPERTS, SAME)],
  ['afmoe', 'experts one by one', (t) => oneByOne(t, UNDER_EXPERTS, SAME)],
  ['klear', 'experts one by one', (t) => oneByOne(t, UNDER_EXPERTS, SAME)],
  ['dbrx', 'experts one below the other', below],
  [
    'granitemoe',
    'all experts in two tensors',
    (t) => fused(t, 'switch_mlp', ['input_linear.weight', 'output_linear.weight']),
  ],
  [
    'ernie4_5_moe',
    'experts one by one, corrections that nothing uses, a block that predicts ahead',
    (t) => {
      oneByOne(t, WITH_BIAS, SAME);
      t.set('model.layers.1.mlp.moe_statics.e_score_correction_bias', any);
      t.set('model.mtp_block.0.input_layernorm.weight', any);
    },
  ],
  [
    'bailing_moe',
    'experts one by one, the gate without a name of its own',
    (t) => {
      oneByOne(t, WITH_BIAS, SAME);
      rename(t, /gate\.gate_proj\.weight$/, asItIs, 'gate.weight');
    },
  ],
  [
    'exaone_moe',
    'experts one by one, the correction beside the gate, layers that predict ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      rename(t, /gate\.e_score_correction_bias$/, asItIs, 'e_score_correction_bias');
      t.set('mtp.norm.weight', any);
    },
  ],
  [
    'mimo_v2_flash',
    'experts one by one, layers that predict ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      t.set('model.mtp.layers.0.norm.weight', any);
    },
  ],
  [
    'hunyuan',
    'experts one by one, queries, keys and values in one matrix',
    (t) => {
      oneByOne(t, STACKED, SAME);
      grouped(t, 2);
    },
  ],
  ['deepseek_v2', 'experts one by one', (t) => oneByOne(t, STACKED, SAME)],
  [
    'glm4_moe_lite',
    'experts one by one, keys and values from one matrix, a layer that predicts ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      keysWithValues(t);
      t.set('model.layers.2.eh_proj.weight', any);
    },
  ],
  [
    'deepseek_v32',
    'experts one by one, keys and values from one matrix',
    (t) => {
      oneByOne(t, STACKED, SAME);
      keysWithValues(t);
    },
  ],
  [
    'mistral4',
    'all experts in two tensors, keys and values from one matrix',
    (t) => {
      fused(t, 'switch_mlp', ['experts.gate_up_proj', 'experts.down_proj']);
      keysWithValues(t);
    },
  ],
  [
    'longcat_flash',
    'experts one by one, keys and values from one matrix, a part that predicts ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      keysWithValues(t);
      t.set('model.mtp.norm.weight', any);
    },
  ],
  [
    'longcat_flash_ngram',
    'the embedding of the tokens by its usual name',
    (t) => rename(t, /ngram_embeddings\.word_embeddings/, asItIs, 'embed_tokens'),
  ],
  [
    'kimi_vl',
    'experts one by one, a vision tower',
    (t) => {
      oneByOne(t, STACKED, SAME);
      t.set('vision_tower.patch_embed.proj.weight', any);
      t.set('multi_modal_projector.linear_1.weight', any);
    },
  ],
  [
    'kimi_k25',
    'keys and values from one matrix, a vision tower',
    (t) => {
      keysWithValues(t);
      t.set('vision_tower.patch_embed.proj.weight', any);
      t.set('mm_projector.proj.0.weight', any);
    },
  ],
  [
    'qwen3_vl_moe',
    'all experts in two transposed tensors, the language model within',
    (t) => {
      fused(t, 'switch_mlp', ['experts.gate_up_proj', 'experts.down_proj'], transposed);
      rename(t, /^language_model\.model\./, asItIs, 'model.language_model.');
      rename(t, /^language_model\.lm_head\./, asItIs, 'lm_head.');
      t.set('model.visual.patch_embed.proj.weight', any);
    },
  ],
  [
    'llama4',
    'all experts in two transposed tensors, a vision model',
    (t) => {
      fused(t, 'experts', ['experts.gate_up_proj', 'experts.down_proj'], transposed);
      t.set('vision_model.class_embedding', any);
      t.set('multi_modal_projector.linear_1.weight', any);
    },
  ],
  [
    'minimax_m3_vl',
    'the shared expert behind the others, a vision tower',
    (t) => {
      sharedBehind(t);
      rename(t, /layers\.0\.mlp\./, asItIs, 'layers.0.block_sparse_moe.');
      t.set('vision_tower.patch_embed.weight', any);
      t.set('patch_merge_mlp.linear_1.weight', any);
    },
  ],
  [
    'laguna',
    'experts one by one, the correction among them, a prefix',
    (t) => {
      oneByOne(t, STACKED, SAME);
      rename(t, /gate\.proj\.weight$/, asItIs, 'gate.weight');
      rename(t, /gate\.e_score_correction_bias$/, asItIs, 'experts.e_score_correction_bias');
      rename(t, /^/, asItIs, 'language_model.');
    },
  ],
  [
    'step3p5',
    'the mixture beside the feed-forward, norms less one, a layer that predicts ahead',
    (t) => {
      rename(t, /norm\.weight$/, lessOne);
      rename(t, /mlp\.switch_mlp\./, asItIs, 'moe.');
      rename(t, /mlp\.gate\.gate\./, asItIs, 'moe.gate.');
      rename(t, /mlp\.gate\.router_bias$/, asItIs, 'moe.router_bias');
      rename(t, /mlp\.share_expert\./, asItIs, 'share_expert.');
      t.set('model.layers.4.eh_proj.weight', any);
    },
  ],
  [
    'phixtral',
    'experts one by one',
    (t) => {
      oneByOne(t, WITH_BIAS, { fc1: 'fc1', fc2: 'fc2' });
      rename(t, /moe\.experts\./, asItIs, 'moe.mlp.');
    },
  ],
  [
    'spark2_5',
    'the embedding by its usual name',
    (t) => rename(t, /model\.embedding\./, asItIs, 'model.embed_tokens.'),
  ],
];

describe('a mixture as its original checkpoint lays it out', () => {
  it.each(layouts)('%s: %s', async (name, _what, tensors) => {
    await expectSameScores(name, tensors);
  });
});
