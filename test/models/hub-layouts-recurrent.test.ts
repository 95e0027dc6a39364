/** Checkpoints of architectures with recurrent layers as transformers lays them out, made from their goldens. */

import { afterAll, describe, it } from 'vitest';

import { removeTemporaryFolders } from '../helpers/temporary.js';
import type { Changes, Tensor, Tensors } from './altered-model.js';
import {
  asItIs,
  concatenated,
  expectSameScores,
  joined,
  keysWithValues,
  lessOne,
  oneByOne,
  parts,
  pull,
  rename,
  SAME,
  scaled,
  shaped,
  STACKED,
  transposed,
} from './tensor-layouts.js';

afterAll(removeTemporaryFolders);

const FILTERS = /conv(1d|_1d)?\.weight$/;
const filters = (tensors: Tensors): void => rename(tensors, FILTERS, transposed);

/** The tensors `first` and `second` of every scope to one, `joint`, rows of the first before those of the second. */
function fuse(tensors: Tensors, first: string, second: string, joint: string): void {
  for (const name of [...tensors.keys()].filter((key) => key.includes(first))) {
    const upper = pull(tensors, name);
    const lower = pull(tensors, name.replace(first, second));
    const stacked = upper.shape.length === 3;
    const both = stacked
      ? joined(parts(upper).map((expert, i) => concatenated(expert, parts(lower)[i]!)))
      : concatenated(upper, lower);
    tensors.set(name.replace(first, joint), both);
  }
}

/** Rows of `tensor` in runs of the given lengths, each run times its factor. */
function scaledRuns(tensor: Tensor, runs: [number, number][]): Tensor {
  const rows = parts(tensor);
  let at = 0;
  return joined(
    runs.flatMap(([length, factor]) =>
      rows.slice(at, (at += length)).map((row) => scaled(row, factor)),
    ),
  );
}

const layouts: [string, string, Changes['tensors']][] = [
  [
    'qwen3_5',
    'another prefix, filters as PyTorch has them, norms less one, eyes, layers that predict ahead',
    (t) => {
      filters(t);
      rename(t, /(layernorm|model\.norm|[qk]_norm)\.weight$/, lessOne);
      rename(t, /^language_model\.model\./, asItIs, 'model.language_model.');
      const norm = t.get('model.language_model.norm.weight')!;
      t.set('model.visual.blocks.0.norm1.weight', norm);
      t.set('mtp.norm.weight', norm);
      t.set('lm_head.weight', norm); // tied
    },
  ],
  [
    'qwen3_5_moe',
    'no prefix, gate and up of all experts in one, norms less one',
    (t) => {
      filters(t);
      rename(t, /(layernorm|model\.norm|[qk]_norm)\.weight$/, lessOne);
      fuse(t, 'switch_mlp.gate_proj.weight', 'switch_mlp.up_proj.weight', 'experts.gate_up_proj');
      rename(t, /switch_mlp\.down_proj\.weight$/, asItIs, 'experts.down_proj');
      rename(t, /^language_model\./, asItIs, '');
    },
  ],
  ['mamba', 'filters as PyTorch has them', filters],
  ['mamba2', 'filters as PyTorch has them', filters],
  ['falcon_mamba', 'filters as PyTorch has them', filters],
  [
    'lfm2_moe',
    'experts one by one, other names, filters as PyTorch has them',
    (t) => {
      filters(t);
      oneByOne(t, STACKED, { gate_proj: 'w1', up_proj: 'w3', down_proj: 'w2' });
      rename(t, /layers\.0\.feed_forward\.gate_proj/, asItIs, 'layers.0.feed_forward.w1');
      rename(t, /layers\.0\.feed_forward\.up_proj/, asItIs, 'layers.0.feed_forward.w3');
      rename(t, /layers\.0\.feed_forward\.down_proj/, asItIs, 'layers.0.feed_forward.w2');
    },
  ],
  [
    'granitemoehybrid',
    'gate and up of all experts in one, filters as PyTorch has them, a head that is tied',
    (t) => {
      filters(t);
      fuse(t, 'switch_mlp.gate_proj', 'switch_mlp.up_proj', 'input_linear');
      rename(t, /switch_mlp\.down_proj/, asItIs, 'output_linear');
      t.set('lm_head.weight', t.get('model.embed_tokens.weight')!);
    },
  ],
  [
    'granitemoehybrid-dense',
    'gate and up in one, as a shared feed-forward',
    (t) => {
      fuse(t, 'mlp.gate_proj', 'mlp.up_proj', 'shared_mlp.input_linear');
      rename(t, /mlp\.down_proj/, asItIs, 'shared_mlp.output_linear');
    },
  ],
  [
    'nemotron_h',
    'experts one by one, filters as PyTorch has them, layers that predict ahead',
    (t) => {
      filters(t);
      oneByOne(t, STACKED, { fc1: 'up_proj', fc2: 'down_proj' });
      t.set('mtp.layers.0.norm.weight', t.get('backbone.norm_f.weight')!);
    },
  ],
  [
    'falcon_h1',
    'filters as PyTorch has them, without the multipliers of the config',
    (t) => {
      filters(t);
      const [gate, down] = [0.8838834764831844, 0.5859375];
      const [small, ssmIn, ssmOut] = [0.3535533905932738, 1.25, 0.23570226039551587];
      rename(t, /embed_tokens\.weight$/, (w) => scaled(w, 1 / 4));
      rename(t, /self_attn\.o_proj\.weight$/, (w) => scaled(w, 1 / 0.9375));
      rename(t, /gate_proj\.weight$/, (w) => scaled(w, 1 / gate));
      rename(t, /down_proj\.weight$/, (w) => scaled(w, 1 / down));
      rename(t, /mamba\.out_proj\.weight$/, (w) => scaled(w, 1 / ssmOut));
      const factors = [small, 0.25, small, 0.5, small].map((factor) => 1 / (factor * ssmIn));
      rename(t, /mamba\.in_proj\.weight$/, (w) =>
        scaledRuns(
          w,
          [32, 32, 32, 32, 4].map((rows, i) => [rows, factors[i]!]),
        ),
      );
    },
  ],
  [
    'jamba',
    'experts one by one, filters as PyTorch has them',
    (t) => {
      filters(t);
      oneByOne(t, STACKED, SAME);
    },
  ],
  [
    'kimi_linear',
    'other names, keys and values from one matrix, filters as PyTorch has them, flat rates',
    (t) => {
      rename(t, /([qkv])_conv\.conv\.weight$/, transposed, '$1_conv1d.weight');
      rename(t, /A_log$/, (a) => shaped(a, [2]));
      rename(t, /dt_bias$/, (bias) => shaped(bias, [2, 12]));
      keysWithValues(t);
      rename(t, /mlp\.e_score_correction_bias$/, asItIs, 'mlp.gate.e_score_correction_bias');
      rename(t, /layers\.([12])\.mlp\./, asItIs, 'layers.$1.block_sparse_moe.');
      oneByOne(t, STACKED, { gate_proj: 'w1', up_proj: 'w3', down_proj: 'w2' });
    },
  ],
  [
    'kimi_k3',
    'other names, queries, keys and values apart, eyes, flat rates',
    (t) => {
      for (const name of [...t.keys()].filter((key) => key.includes('qkv_'))) {
        const rows = parts(pull(t, name));
        const size = rows.length / 3;
        for (const [i, letter] of ['q', 'k', 'v'].entries()) {
          const part = joined(rows.slice(i * size, (i + 1) * size));
          const filter = name.endsWith('conv.weight');
          const to = name.replace('qkv_', `${letter}_`).replace('_conv.conv', '_conv1d');
          t.set(to, filter ? transposed(part) : part);
        }
      }
      keysWithValues(t);
      rename(t, /(\w+_res)_(proj|norm)\.weight$/, asItIs, '$1.$2_weight');
      rename(t, /mlp\.e_score_correction_bias$/, asItIs, 'mlp.gate.e_score_correction_bias');
      rename(t, /layers\.([123])\.mlp\./, asItIs, 'layers.$1.block_sparse_moe.');
      oneByOne(t, STACKED, { gate_proj: 'w1', up_proj: 'w3', down_proj: 'w2' });
      t.set('vision_tower.norm.weight', t.get('language_model.model.norm.weight')!);
    },
  ],
  [
    'bailing_moe_linear',
    'experts one by one, the router under another name',
    (t) => {
      oneByOne(t, STACKED, SAME);
      rename(t, /gate\.gate_proj\.weight$/, asItIs, 'gate.weight');
    },
  ],
  [
    'bailing_hybrid',
    'experts one by one, the router under another name, keys and values from one matrix',
    (t) => {
      oneByOne(t, STACKED, SAME);
      rename(t, /gate\.gate_proj\.weight$/, asItIs, 'gate.weight');
      keysWithValues(t);
    },
  ],
  [
    'bailing_moe_v3',
    'experts one by one, keys and values from one matrix, filters, a layer that predicts ahead',
    (t) => {
      oneByOne(t, STACKED, SAME);
      filters(t);
      keysWithValues(t);
      t.set('model.layers.3.eh_proj.weight', t.get('model.norm.weight')!);
    },
  ],
  ['olmo_hybrid', 'filters as PyTorch has them', filters],
  ['plamo2', 'filters as PyTorch has them', filters],
  ['recurrent_gemma', 'filters as PyTorch has them', filters],
  [
    'rwkv7',
    'what belongs to heads without an axis of them',
    (t) => rename(t, /(k_k|k_a|g_norm\.weight|g_norm\.bias)$/, (w) => shaped(w, [32])),
  ],
];

describe('a checkpoint as transformers lays it out', () => {
  it.each(layouts)('%s: %s', async (name, _what, tensors) => {
    await expectSameScores(name, tensors);
  });
});
