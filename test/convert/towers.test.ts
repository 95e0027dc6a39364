/**
 * Multimodal checkpoints: their text towers are converted, whichever way a publisher nests them, and what sees or hears
 * stays as it is.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import type { ConvertOptions } from '../../lib/convert/options.js';
import { cache, load } from '../../lib/index.js';
import { writeFiles } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import {
  alteredModel,
  readSafetensors,
  type Tensor,
  type Tensors,
} from '../models/altered-model.js';
import { ownGoldens } from '../models/golden-cases.js';
import {
  asItIs,
  fused,
  gateBesideUp,
  keysWithValues,
  oneByOne,
  rename,
  SAME,
  STACKED,
  transposed,
} from '../models/tensor-layouts.js';

afterAll(removeTemporaryFolders);

const PROMPT = [5, 9, 3, 17, 8, 4, 11, 6, 7];

/** Where transformers puts the text tower of these types. */
const WITHIN_MODEL = (t: Tensors): void => {
  rename(t, /^language_model\.model\./, asItIs, 'model.language_model.');
  if (t.has('language_model.lm_head.weight')) {
    rename(t, /^language_model\.lm_head/, asItIs, 'lm_head');
  }
};
const ALONE = (t: Tensors): void => {
  rename(t, /^language_model\./, asItIs, '');
};
const WITH_FILTERS = (t: Tensors): void => {
  WITHIN_MODEL(t);
  rename(t, /conv\.conv\.weight$/, transposed);
};
const AS_IT_IS = (): void => undefined;
const EXPERTS_TRANSPOSED = (t: Tensors): void => {
  fused(t, 'switch_mlp', ['experts.gate_up_proj', 'experts.down_proj'], transposed);
  WITHIN_MODEL(t);
};
const EXPERTS_ONE_BY_ONE = (t: Tensors): void => {
  oneByOne(t, STACKED, SAME);
  keysWithValues(t);
};
/** As mlx-vlm saves Gemma 3n. */
const MODEL_WITHIN = (t: Tensors): void => {
  rename(t, /^model\.language_model\./, asItIs, 'language_model.model.');
};

function tensor(dtype: string, shape: number[], seed: number): Tensor {
  const bytes = shape.reduce((a, b) => a * b, 1) * (dtype === 'F32' ? 4 : 2);
  // Small numbers of either type, each different.
  const data = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++) data[i] = i % 2 === 0 ? (i * 31 + seed) % 256 : 0x3c;
  return { dtype, shape, data };
}

/** What sees, with matrices that would be quantized, were they the text's. */
function eyes(tower: string, projector: string): Tensors {
  return new Map([
    [`${tower}.patch_embed.proj.weight`, tensor('F32', [8, 3, 2, 2], 1)],
    [`${tower}.blocks.0.mlp.down_proj.weight`, tensor('BF16', [64, 64], 2)],
    [`${tower}.blocks.7.attn.qkv.bias`, tensor('F16', [64], 3)],
    [`${projector}.linear_1.weight`, tensor('F32', [64, 64], 4)],
  ]);
}

type Case = [
  golden: string,
  how: ConvertOptions,
  text: (t: Tensors) => void,
  tower: string,
  projector: string,
];
const AFFINE: ConvertOptions = { quantize: 4, groupSize: 32 };
const PROJECTOR = 'multi_modal_projector';
const cases: Case[] = [
  ['gemma3-4bit', AFFINE, WITHIN_MODEL, 'model.vision_tower.vision_model', `model.${PROJECTOR}`],
  ['gemma3-4bit', { ...AFFINE, mixed: 'mixed_3_6' }, AS_IT_IS, 'vision_tower', PROJECTOR],
  ['gemma4-4bit', AFFINE, WITHIN_MODEL, 'model.vision_tower', 'model.embed_vision'],
  ['gemma4_unified', AFFINE, AS_IT_IS, 'vision_tower', 'embed_audio'],
  ['llava-4bit', AFFINE, AS_IT_IS, 'vision_tower', PROJECTOR],
  ['mistral3-4bit', AFFINE, WITHIN_MODEL, 'model.vision_tower', `model.${PROJECTOR}`],
  ['pixtral-4bit', AFFINE, AS_IT_IS, 'vision_tower.vision_model', PROJECTOR],
  ['qwen2_vl-4bit', AFFINE, ALONE, 'visual', 'visual.merger'],
  ['qwen2_5_vl', AFFINE, WITHIN_MODEL, 'model.visual', 'model.visual.merger'],
  ['qwen3_vl', AFFINE, WITHIN_MODEL, 'model.visual', 'model.visual.merger'],
  ['qwen3_vl_moe', AFFINE, EXPERTS_TRANSPOSED, 'model.visual', 'model.visual.merger'],
  ['qwen3_vl_moe', { ...AFFINE, mixed: 'mixed_4_6' }, AS_IT_IS, 'vision_tower', PROJECTOR],
  ['kimi_vl', AFFINE, EXPERTS_ONE_BY_ONE, 'vision_tower', PROJECTOR],
  ['kimi_vl', AFFINE, AS_IT_IS, 'vision_tower', PROJECTOR],
  ['gemma3n', AFFINE, AS_IT_IS, 'model.vision_tower', 'model.embed_vision'],
  ['gemma3n', AFFINE, MODEL_WITHIN, 'audio_tower', 'embed_audio'],
  ['lfm2-vl', AFFINE, WITH_FILTERS, 'model.vision_tower', `model.${PROJECTOR}`],
];

async function converted(source: string, options: ConvertOptions): Promise<string> {
  const target = path.join(temporaryFolder(), 'made');
  await cache.convert(source, target, options);
  return target;
}

/** A golden with plain weights, laid out as its publisher has it, and eyes. */
async function multimodal(
  golden: string,
  layout: (t: Tensors) => void,
  others: Tensors,
): Promise<string> {
  const from = path.join(ownGoldens, golden);
  const plain = golden.endsWith('-4bit') ? await converted(from, { dequantize: true }) : from;
  const folder = alteredModel(plain, {
    config: (config) => {
      config['vision_config'] = { hidden_size: 64, eps: 1e-6 };
    },
    tensors: (t) => {
      layout(t);
      for (const [name, value] of others) t.set(name, value);
    },
  });
  writeFiles(folder, { 'preprocessor_config.json': { image_processor_type: 'Any' } });
  return folder;
}

async function logits(folder: string): Promise<Float32Array> {
  await using model = await load(folder);
  return await model.logits(PROMPT);
}

function expectClose(actual: Float32Array, expected: Float32Array): void {
  const distance = Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!)));
  expect(distance).toBeLessThanOrEqual(1e-4 * Math.max(...expected.map(Math.abs)));
}

const weightsOf = (folder: string): Tensors =>
  readSafetensors(path.join(folder, 'model.safetensors'));

describe('a multimodal checkpoint', () => {
  it.each(cases)('%s %j', async (golden, how, layout, tower, projector) => {
    const others = eyes(tower, projector);
    const source = await multimodal(golden, layout, others);
    const made = await converted(source, how);
    expect((await cache.show(made)).model).toMatchObject({
      health: 'healthy',
      runtimeCompatible: true,
      capabilities: expect.arrayContaining(['vision']) as unknown,
    });
    const weights = weightsOf(made);
    for (const [name, value] of others) expect([name, weights.get(name)]).toEqual([name, value]);
    const text = [...weights.keys()].filter((name) => !others.has(name));
    // Those of Gemma 3n stay as they were published: mlx-lm knows no others.
    const home = golden === 'gemma3n' ? /^(model\.)?language_model\./ : /^language_model\./;
    expect(text.filter((name) => !home.test(name))).toEqual([]);
    // No matrix of this golden divides into groups of 32.
    const packed = golden === 'lfm2-vl' ? 0 : 2;
    expect(text.filter((name) => name.endsWith('.scales')).length).toBeGreaterThanOrEqual(packed);
    expect([...weights.keys()].filter((name) => /(visi|visu|modal_p).*scales/.test(name))).toEqual(
      [],
    );
    const config = readFileSync(path.join(made, 'config.json'), 'utf8');
    expect(config).toContain('"eps": 0.000001');
    expect(readFileSync(path.join(made, 'README.md'), 'utf8')).toContain('image-text-to-text');

    const plain = await converted(made, { dequantize: true, dtype: 'float32' });
    expectClose(await logits(made), await logits(plain));
  });

  it('is what the golden is when nothing is quantized', async () => {
    const source = await multimodal(
      'gemma3-4bit',
      WITHIN_MODEL,
      eyes('model.visual', 'model.mm_projector'),
    );
    expectClose(await logits(source), await logits(path.join(ownGoldens, 'gemma3-4bit')));
  });

  it('has its experts parted that are published in one', async () => {
    const others = eyes('model.vision_tower', 'model.embed_vision');
    const fused = (t: Tensors): void => {
      WITHIN_MODEL(t);
      gateBesideUp(t, 'switch_glu');
      rename(t, /switch_glu\.down_proj\.weight$/, asItIs, 'down_proj');
    };
    const made = async (layout: (t: Tensors) => void): Promise<Tensors> =>
      weightsOf(await converted(await multimodal('gemma4_unified', layout, others), AFFINE));
    expect(await made(fused)).toEqual(await made(AS_IT_IS));
  });

  it('has its experts turned that are published transposed', async () => {
    const others = eyes('model.visual', 'model.visual.merger');
    const made = async (layout: (t: Tensors) => void, how: ConvertOptions): Promise<Tensors> =>
      weightsOf(await converted(await multimodal('qwen3_vl_moe', layout, others), how));
    for (const how of [AFFINE, { dtype: 'bfloat16' }, { dtype: 'float32' }] as const) {
      expect(await made(EXPERTS_TRANSPOSED, how)).toEqual(await made(AS_IT_IS, how));
    }
  });

  it('may have its keys and values packed in one matrix', async () => {
    const from = await converted(path.join(ownGoldens, 'deepseek_v3-4bit'), { dequantize: true });
    const source = alteredModel(from, {
      config: (config) => {
        const { ...text } = config;
        for (const name of Object.keys(config)) Reflect.deleteProperty(config, name);
        Object.assign(config, { model_type: 'kimi_vl', text_config: text, vision_config: {} });
      },
      tensors: (t) => {
        keysWithValues(t);
        rename(t, /^/, asItIs, 'language_model.');
        for (const [name, value] of eyes('vision_tower', PROJECTOR)) t.set(name, value);
      },
    });
    writeFiles(source, { 'preprocessor_config.json': {} });
    const made = await converted(source, AFFINE);
    const name = 'language_model.model.layers.0.self_attn.kv_b_proj.scales';
    expect(weightsOf(made).has(name)).toBe(true);
    const plain = await converted(made, { dequantize: true, dtype: 'float32' });
    expectClose(await logits(made), await logits(plain));
  });

  it('keeps what was quantized before beside the text, and says how', async () => {
    const source = await multimodal('llava-4bit', AS_IT_IS, eyes('vision_tower', PROJECTOR));
    const first = await converted(source, AFFINE);
    const packed = alteredModel(first, {
      tensors: (t) => {
        const from = 'language_model.model.layers.0.mlp.up_proj';
        for (const leaf of ['weight', 'scales', 'biases']) {
          t.set(`vision_tower.blocks.0.mlp.down_proj.${leaf}`, t.get(`${from}.${leaf}`)!);
        }
      },
    });
    writeFiles(packed, { 'preprocessor_config.json': {} });
    const again = await converted(packed, { quantize: 8, groupSize: 64 });
    const { quantization } = JSON.parse(readFileSync(path.join(again, 'config.json'), 'utf8')) as {
      quantization: Record<string, unknown>;
    };
    const module = 'vision_tower.blocks.0.mlp.down_proj';
    expect(quantization).toMatchObject({
      bits: 8,
      group_size: 64,
      [module]: { bits: 4, group_size: 32, mode: 'affine' },
    });
    for (const leaf of ['weight', 'scales', 'biases']) {
      const name = `${module}.${leaf}`;
      expect(weightsOf(again).get(name)).toEqual(weightsOf(packed).get(name));
    }
    const plain = weightsOf(await converted(again, { dequantize: true }));
    expect(plain.get(`${module}.weight`)?.shape).toEqual([64, 64]);
    expect([...plain.keys()].filter((name) => name.endsWith('scales'))).toEqual([]);
  });

  it('of Gemma 3n says of its modules by both of their names how they are packed', async () => {
    const source = await multimodal(
      'gemma3n',
      AS_IT_IS,
      eyes('model.vision_tower', 'model.embed_vision'),
    );
    const made = await converted(source, { ...AFFINE, mixed: 'mixed_4_6' });
    const { quantization } = JSON.parse(readFileSync(path.join(made, 'config.json'), 'utf8')) as {
      quantization: Record<string, unknown>;
    };
    const six = { bits: 6, group_size: 32, mode: 'affine' };
    const module = 'layers.2.self_attn.v_proj';
    expect(quantization[`model.language_model.${module}`]).toEqual(six);
    expect(quantization[`language_model.model.${module}`]).toEqual(six);
    const plain = await converted(made, { dequantize: true, dtype: 'float32' });
    expectClose(await logits(made), await logits(plain));
  });

  it('of Gemma 3 gets an output matrix of its own, which mlx-vlm wants', async () => {
    const shared = (t: Tensors): void => {
      WITHIN_MODEL(t);
      t.delete('lm_head.weight');
    };
    const source = await multimodal(
      'gemma3-4bit',
      shared,
      eyes('model.vision_tower', 'model.mm_projector'),
    );
    const made = await converted(source, AFFINE);
    const weights = weightsOf(made);
    for (const leaf of ['weight', 'scales', 'biases']) {
      const embedding = weights.get(`language_model.model.embed_tokens.${leaf}`);
      expect(weights.get(`language_model.lm_head.${leaf}`)).toEqual(embedding);
    }
    const plain = await converted(source, { dtype: 'float32' });
    expect(weightsOf(plain).has('language_model.lm_head.weight')).toBe(false);
    expectClose(await logits(made), await logits(await converted(made, { dequantize: true })));
  });

  it('is cast as a whole when a type is asked for', async () => {
    const source = await multimodal('llava-4bit', AS_IT_IS, eyes('vision_tower', PROJECTOR));
    const cast = weightsOf(await converted(source, { dtype: 'bfloat16' }));
    expect(new Set([...cast.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']));
  });
});
