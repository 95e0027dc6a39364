/**
 * Checkpoints as transformers lays them out: experts one by one, gate and up interleaved, filters and matrices
 * transposed, norms less one. Each is made from a golden and gives the golden's scores.
 */

import { afterAll, describe, expect, it } from 'vitest';

import { removeTemporaryFolders } from '../helpers/temporary.js';
import type { Changes, Tensor, Tensors } from './altered-model.js';
import {
  asItIs,
  expectSameScores,
  gateBesideUp,
  interleaved,
  joined,
  keysWithValues,
  lessOne,
  oneByOne,
  parts,
  product,
  pull,
  rename,
  SAME,
  STACKED,
  transposed,
} from './tensor-layouts.js';

afterAll(removeTemporaryFolders);

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
      keysWithValues(t);
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
  [
    'gemma3',
    'the text tower within the model, another one beside it',
    (t) => {
      rename(t, /^language_model\.model\./, asItIs, 'model.language_model.');
      t.set('model.vision_tower.norm.weight', t.get('model.language_model.norm.weight')!);
    },
  ],
  [
    'gemma3n',
    'the model within the text tower, as mlx-vlm has it, others beside it',
    (t) => {
      rename(t, /^model\.language_model\./, asItIs, 'language_model.model.');
      const any = { dtype: 'F32', shape: [1], data: Buffer.alloc(4) };
      for (const tower of ['vision_tower', 'embed_vision', 'audio_tower', 'embed_audio']) {
        t.set(`${tower}.any.weight`, any);
        t.set(`model.${tower}.any.weight`, any);
      }
    },
  ],
  [
    'gemma4_unified',
    'the text tower within the model, gate and up of all experts in one, buffers along',
    (t) => {
      rename(t, /^language_model\.model\./, asItIs, 'model.language_model.');
      rename(t, /^language_model\.lm_head/, asItIs, 'lm_head');
      gateBesideUp(t, 'switch_glu');
      rename(t, /switch_glu\.down_proj\.weight$/, asItIs, 'down_proj');
      const number = { dtype: 'F32', shape: [], data: Buffer.alloc(4) };
      t.set('model.language_model.layers.0.mlp.up_proj.input_max', number);
      t.set('model.embed_vision.weight', number);
    },
  ],
  [
    'qwen2_vl',
    'the text tower under the names it has alone, another one beside it',
    (t) => {
      rename(t, /^language_model\./, asItIs, '');
      t.set('visual.norm.weight', t.get('model.norm.weight')!);
    },
  ],
  [
    'gpt_neox',
    'names of its own, the causal mask along',
    (t) => {
      rename(t, /^model\.h\./, asItIs, 'gpt_neox.layers.');
      rename(t, /^model\.embed_out/, asItIs, 'embed_out');
      rename(t, /^model\./, asItIs, 'gpt_neox.');
      const mask = { dtype: 'F32', shape: [1, 1, 2, 2], data: Buffer.alloc(16) };
      t.set('gpt_neox.layers.0.attention.bias', mask);
    },
  ],
  ['gptj', 'another prefix', (t) => rename(t, /^model\./, asItIs, 'transformer.')],
];

describe('a checkpoint as transformers lays it out', () => {
  it.each(layouts)('%s: %s', async (name, _what, tensors) => {
    await expectSameScores(name, tensors);
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
