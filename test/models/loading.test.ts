/**
 * What loading refuses: weights that do not fit the config, a config that lies, weights that are no numbers. Each is
 * a typed error that names the tensor or the field, and leaves the engine able to load the next model.
 */

import { cpSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { cache, load, MlxkError } from '../../lib/index.js';
import { writeBadModels } from '../helpers/bad-safetensors.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import {
  alteredModel,
  type Changes,
  type Config,
  type Tensors,
  tensorNamed,
} from './altered-model.js';
import { ownGoldens } from './golden-cases.js';

const dense = path.join(ownGoldens, 'llama');
const quantized = path.join(ownGoldens, 'llama-4bit-g64');
const mixed = path.join(ownGoldens, 'llama-mixed-bits');
const sliding = path.join(ownGoldens, 'llama-sliding');
const sharded = path.join(ownGoldens, 'llama-sharded');
const qwen2 = path.join(ownGoldens, 'qwen2');
const phi3 = path.join(ownGoldens, 'phi3');
const own = (name: string): string => path.join(ownGoldens, name);

const UP = 'model.layers.1.mlp.up_proj.weight';
const NORM = 'model.layers.0.input_layernorm.weight';
const GATE = 'model.layers.0.mlp.gate_proj';

afterAll(removeTemporaryFolders);

/** The error of a load that must fail, after seeing that the engine still works. */
async function refusal(folder: string): Promise<MlxkError> {
  const outcome = await load(folder).then(
    async (model) => {
      await model.dispose();
      return 'it was loaded';
    },
    (error: unknown) => error,
  );
  expect(outcome).toBeInstanceOf(MlxkError);
  const model = await load(dense);
  expect(await model.logits([3])).toHaveLength(model.info.vocabSize);
  await model.dispose();
  return outcome as MlxkError;
}

interface Refused extends Changes {
  name: string;
  from?: string;
  code?: string;
  reason: string;
  /** What the message has to say. */
  says: (string | RegExp)[];
}

function refuses(cases: Refused[]): void {
  for (const { name, from = dense, code = 'validation_error', reason, says, ...changes } of cases) {
    it(name, async () => {
      const error = await refusal(alteredModel(from, changes));
      expect({ code: error.code, reason: error.reason, message: error.message }).toMatchObject({
        code,
        reason,
      });
      for (const part of says) expect(error.message).toMatch(part);
    });
  }
}

const drop = (name: string) => (tensors: Tensors) => void tensors.delete(name);

describe('weights that do not fit the config', () => {
  refuses([
    { name: 'refuses a missing tensor', tensors: drop(UP), reason: 'tensor_missing', says: [UP] },
    {
      name: 'lists all missing tensors at once',
      tensors: (tensors) => [UP, NORM, 'model.norm.weight'].forEach((name) => drop(name)(tensors)),
      reason: 'tensor_missing',
      says: [UP, NORM, 'model.norm.weight'],
    },
    {
      name: 'refuses a tensor that nothing uses',
      tensors: (tensors) =>
        tensors.set('model.layers.0.self_attn.sinks', tensorNamed(tensors, NORM)),
      reason: 'tensor_unexpected',
      says: ['model.layers.0.self_attn.sinks'],
    },
    {
      name: 'refuses a layer beyond the last one',
      config: (config) => (config['num_hidden_layers'] = 1),
      reason: 'tensor_unexpected',
      says: ['model.layers.1.'],
    },
    {
      name: 'refuses biases that the config does not speak of',
      from: path.join(ownGoldens, 'llama-bias-untied'),
      config: (config) => (config['attention_bias'] = false),
      reason: 'tensor_unexpected',
      says: ['q_proj.bias'],
    },
    {
      name: 'refuses a tensor of another shape, with both shapes',
      tensors: (tensors) => (tensorNamed(tensors, UP).shape = [64, 96]),
      reason: 'tensor_shape',
      says: [UP, /\[64, 96\]/, /\[96, 64\]/],
    },
    {
      name: 'refuses a tensor with another number of dimensions',
      tensors: (tensors) => (tensorNamed(tensors, UP).shape = [96 * 64]),
      reason: 'tensor_shape',
      says: [UP],
    },
    {
      name: 'refuses integers where numbers belong',
      tensors: (tensors) => (tensorNamed(tensors, UP).dtype = 'I32'),
      reason: 'tensor_type',
      says: [UP, 'int32'],
    },
    {
      name: 'refuses a config of another width',
      config: (config) => (config['hidden_size'] = 128),
      reason: 'tensor_shape',
      says: ['model.embed_tokens.weight', '64', '128'],
    },
    {
      name: 'refuses a config of another vocabulary',
      config: (config) => (config['vocab_size'] = 161),
      reason: 'tensor_shape',
      says: ['model.embed_tokens.weight', '161'],
    },
    {
      name: 'refuses an untied head that is not there',
      config: (config) => (config['tie_word_embeddings'] = false),
      reason: 'tensor_missing',
      says: ['lm_head.weight'],
    },
  ]);
});

function quantization(config: Config): Record<string, unknown> {
  delete config['quantization_config'];
  return config['quantization'] as Record<string, unknown>;
}

describe('wrong quantization', () => {
  refuses([
    {
      name: 'refuses missing scales',
      from: quantized,
      tensors: drop(`${GATE}.scales`),
      reason: 'tensor_shape',
      says: [GATE],
    },
    {
      name: 'refuses missing biases',
      from: quantized,
      tensors: drop(`${GATE}.biases`),
      reason: 'tensor_missing',
      says: [`${GATE}.biases`],
    },
    {
      name: 'refuses scales of another group size',
      from: quantized,
      tensors: (tensors) => (tensorNamed(tensors, `${GATE}.scales`).shape = [1, 128]),
      reason: 'tensor_shape',
      says: [GATE],
    },
    {
      name: 'refuses bits that a layer does not have',
      from: mixed,
      config: (config) => (quantization(config)['lm_head'] = { group_size: 32, bits: 4 }),
      reason: 'tensor_shape',
      says: ['lm_head.weight'],
    },
    {
      name: 'refuses a quantized layer that the config calls dense',
      from: mixed,
      config: (config) => (quantization(config)['lm_head'] = false),
      reason: 'tensor_shape',
      says: ['lm_head'],
    },
    {
      name: 'refuses a dense layer that the config calls quantized',
      from: mixed,
      config: (config) =>
        (quantization(config)['model.layers.1.mlp.gate_proj'] = { group_size: 32, bits: 4 }),
      reason: 'tensor_shape',
      says: ['model.layers.1.mlp.gate_proj.weight'],
    },
    {
      name: 'refuses a number of bits that has no kernel',
      from: quantized,
      config: (config) => (quantization(config)['bits'] = 7),
      reason: 'quantization_unsupported',
      says: ['quantization', '7'],
    },
    {
      name: 'refuses a group size that has no kernel',
      from: quantized,
      config: (config) => (quantization(config)['group_size'] = 48),
      reason: 'quantization_unsupported',
      says: ['quantization', '48'],
    },
    {
      name: 'refuses an unknown mode',
      from: quantized,
      config: (config) => (quantization(config)['mode'] = 'ternary'),
      reason: 'quantization_unsupported',
      says: ['quantization.mode', 'ternary'],
    },
    {
      name: 'refuses a method of another toolkit by name',
      config: (config) =>
        (config['quantization_config'] = { quant_method: 'gptq', bits: 4, group_size: 64 }),
      reason: 'quantization_unsupported',
      says: ['gptq'],
    },
  ]);
});

describe('a width that the weights have not, where they are computed with at load', () => {
  it.each([
    ['bitnet', 'hidden_size'],
    ['baichuan_m1', 'hidden_size'],
    ['bailing_moe-norm-head', 'hidden_size'],
    ['bailing_moe-norm-head', 'vocab_size'],
    ['deepseek_v3', 'kv_lora_rank'],
  ])('is refused: %s, %s', async (name, field) => {
    const folder = alteredModel(own(name), { config: (config) => (config[field] = 500_000) });
    expect(await refusal(folder)).toMatchObject({ code: 'validation_error' });
  });
});

describe('what a config says of a fused matrix', () => {
  const FUSED = 'model.layers.0.attention.query_key_value';

  async function packed(entry: unknown): Promise<string> {
    const folder = path.join(temporaryFolder(), 'packed');
    await cache.convert(own('bailing_moe'), folder, { quantize: 4, groupSize: 32 });
    return alteredModel(folder, { config: (config) => (quantization(config)[FUSED] = entry) });
  }

  it('holds for its parts', async () => {
    await using model = await load(await packed({ group_size: 32, bits: 4 }));
    expect(await model.logits([3])).toHaveLength(model.info.vocabSize);
  });

  it.each([
    ['other bits', { group_size: 32, bits: 8 }],
    ['no quantization', false],
  ])('is refused where it says %s', async (_, entry) => {
    const error = await refusal(await packed(entry));
    expect(error).toMatchObject({ code: 'validation_error', reason: 'tensor_shape' });
    expect(error.message).toContain('model.layers.0.attention.q_proj.weight');
  });
});

/** One field set to a value that is refused with the field's name. */
function lie(field: string, value: unknown, reason = 'config_invalid', from = dense): Refused {
  return {
    name: `refuses ${field} of ${JSON.stringify(value)}`,
    from,
    config: (config) => (config[field] = value),
    reason,
    says: [field],
  };
}

describe('a config that lies', () => {
  refuses([
    {
      ...lie('model_type', 'frobnicator', 'model_type_unsupported'),
      code: 'not_implemented',
      says: ['frobnicator', 'llama', 'mistral', 'qwen2', 'qwen3'],
    },
    lie('model_type', undefined, 'config_missing_field'),
    lie('model_type', 7),
    lie('num_attention_heads', 0),
    lie('num_attention_heads', -4),
    lie('num_attention_heads', 2.5),
    lie('num_attention_heads', '4'),
    lie('num_attention_heads', undefined, 'config_missing_field'),
    lie('num_key_value_heads', 3),
    lie('num_attention_heads', 5, 'config_invalid', qwen2),
    lie('num_hidden_layers', 2 ** 40),
    lie('num_hidden_layers', -1),
    lie('hidden_size', 2 ** 31),
    lie('intermediate_size', 1e300),
    lie('vocab_size', 0),
    lie('vocab_size', null, 'config_missing_field'),
    lie('head_dim', 15),
    lie('rms_norm_eps', -1e-5),
    lie('rms_norm_eps', 'tiny'),
    lie('rope_theta', 0),
    lie('rope_theta', 1),
    lie('tie_word_embeddings', 'yes'),
    lie('max_position_embeddings', -1),
    lie('max_position_embeddings', 2 ** 53),
    lie('layer_types', ['full_attention', 'full_attention'], 'config_invalid', sliding),
    lie('layer_types', ['full_attention', 'full_attention', 'magic'], 'config_invalid', sliding),
    lie('layer_types', 'sliding_attention', 'config_invalid', sliding),
    lie('sliding_window', undefined, 'config_missing_field', sliding),
    lie('sliding_window', 0, 'config_invalid', sliding),
    lie('rope_scaling', 'linear'),
    {
      ...lie('rope_scaling', { rope_type: 'spiral' }),
      says: ['rope_scaling.rope_type', 'spiral', 'llama3'],
    },
    {
      ...lie('rope_scaling', { type: 'linear' }, 'config_missing_field'),
      says: ['rope_scaling.factor'],
    },
    { ...lie('rope_scaling', { type: 'linear', factor: 0 }), says: ['rope_scaling.factor'] },
    { ...lie('rope_scaling', { type: 'yarn', factor: -2 }), says: ['rope_scaling.factor'] },
    ...[
      [1, 2],
      [1, 0, 2],
      [1, -1, 2],
    ].map((factors) => ({
      ...lie('rope_scaling', { type: 'longrope', long_factor: factors }, 'config_invalid', phi3),
      says: ['rope_scaling.long_factor'],
    })),
    lie('original_max_position_embeddings', 1, 'config_invalid', phi3),
    lie('partial_rotary_factor', 1.5, 'config_invalid', phi3),
    lie('num_experts_per_tok', 5, 'config_invalid', own('mixtral')),
    lie('num_experts_per_tok', 0, 'config_invalid', own('qwen2_moe')),
    lie('num_local_experts', 2 ** 40, 'config_invalid', own('gpt_oss')),
    lie('layer_types', ['sliding_attention'], 'config_invalid', own('gpt_oss')),
    lie('mlp_only_layers', [2], 'config_invalid', own('qwen3_moe')),
    lie('n_group', 3, 'config_invalid', own('deepseek_v3')),
    lie('topk_group', 5, 'config_invalid', own('deepseek_v3')),
    lie('topk_method', 'greedy', 'config_invalid', own('deepseek_v3')),
    lie('kv_lora_rank', 0, 'config_invalid', own('deepseek_v3')),
    lie('full_attn_idxs', [3], 'config_invalid', own('lfm2')),
    lie('conv_L_cache', 0, 'config_invalid', own('lfm2')),
    lie('linear_num_key_heads', 3, 'config_invalid', own('qwen3_next')),
    lie('full_attention_interval', 0, 'config_invalid', own('qwen3_next')),
    lie('n_head', 5, 'config_invalid', own('gpt2')),
    lie('sliding_window', -16, 'config_invalid', own('cohere2')),
    lie('attn_logit_softcapping', 0, 'config_invalid', own('gemma2')),
  ]);

  it('refuses heads so many that the work would never end, before it begins', async () => {
    const folder = alteredModel(dense, {
      config: (config) =>
        Object.assign(config, { num_attention_heads: 65_536, head_dim: 1_048_576 }),
    });
    expect(await refusal(folder)).toMatchObject({
      code: 'validation_error',
      reason: 'config_invalid',
    });
  });

  it('refuses a config that is no object, and one that is no JSON', async () => {
    for (const text of ['[]', '"llama"', '{"model_type": "llama"', '']) {
      const folder = alteredModel(dense, {});
      writeFileSync(path.join(folder, 'config.json'), text);
      expect(await refusal(folder)).toMatchObject({ code: 'validation_error' });
    }
  });

  it('refuses a folder without config.json or without weights', async () => {
    const bare = alteredModel(dense, {});
    rmSync(path.join(bare, 'model.safetensors'));
    expect(await refusal(bare)).toMatchObject({
      code: 'validation_error',
      reason: 'weights_missing',
    });
    rmSync(path.join(bare, 'config.json'));
    expect(await refusal(bare)).toMatchObject({
      code: 'validation_error',
      reason: 'config_missing',
    });
  });
});

describe('files of weights', () => {
  it.each(writeBadModels(dense, temporaryFolder()))('refuses $name', async ({ folder, reason }) => {
    expect(await refusal(folder)).toMatchObject({ code: 'validation_error', reason });
  });

  it('refuses a checkpoint that lacks one of its shards', async () => {
    const folder = temporaryFolder();
    cpSync(sharded, folder, { recursive: true });
    rmSync(path.join(folder, 'model-00002-of-00002.safetensors'));
    const error = await refusal(folder);
    expect(error).toMatchObject({ code: 'validation_error', reason: 'index_shard_missing' });
    expect(error.message).toContain('model-00002-of-00002.safetensors');
  });

  it('refuses an index that leads out of the folder', async () => {
    const folder = alteredModel(dense, {});
    const index = { weight_map: { 'model.norm.weight': '../model.safetensors' } };
    writeFileSync(path.join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
    const error = await refusal(folder);
    expect(error).toMatchObject({ code: 'validation_error', reason: 'index_file_name' });
    expect(error.message).toContain('../model.safetensors');
  });

  it('reads weights whose file has no metadata', async () => {
    const model = await load(alteredModel(dense, {}));
    const original = await load(dense);
    expect(await model.logits([5, 6])).toEqual(await original.logits([5, 6]));
    await Promise.all([model.dispose(), original.dispose()]);
  });
});

describe('weights that are no numbers', () => {
  const poisoned = (): string =>
    alteredModel(dense, {
      tensors: (tensors) => {
        for (const { data } of tensors.values()) data.fill(0xff); // A NaN in every floating-point type.
      },
    });

  it('end a generation at its first token with a typed error', async () => {
    const model = await load(poisoned());
    const failure = await model.generate({ tokens: [5, 6, 7] }, { maxTokens: 4 }).then(
      () => 'it answered',
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({
      name: 'MlxkError',
      code: 'internal_error',
      reason: 'non_finite_scores',
    });
    expect((failure as Error).message).toMatch(/position 3/);
    await model.dispose();
  });

  it('leave a generation of a sound model beside it alone', async () => {
    const [bad, good] = await Promise.all([load(poisoned()), load(dense)]);
    const answers = await Promise.allSettled([
      bad.generate({ tokens: [5, 6, 7] }, { maxTokens: 8 }),
      good.generate({ tokens: [5, 6, 7] }, { maxTokens: 8 }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
    await Promise.all([bad.dispose(), good.dispose()]);
  });
});
