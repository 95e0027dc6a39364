/**
 * From the tensors of a checkpoint to the parameters of mlx-lm's model: drops what the model computes itself or shares,
 * and puts the experts of a layer into one tensor. What mlx-lm's `sanitize` functions do for these families; layouts
 * that need arithmetic are refused by name.
 */

import { MlxkError } from '../errors.js';
import type { Route } from './route.js';
import { type BlockScales, withMlxStorage } from './foreign-storage.js';
import type { Config, SourceTensor } from './source.js';
import { partTowers } from './text-tower.js';

/** A tensor of the converted model: parts are stacked along a new first axis. */
export interface Parameter {
  readonly name: string;
  readonly encoding: string;
  readonly shape: readonly number[];
  readonly parts: readonly SourceTensor[];
  readonly interleavedHeads?: number;
  /** Of every part. */
  readonly transposed?: SourceTensor['transposed'];
  readonly add?: number;
  readonly times?: number;
  /** Of the parts, in their order. */
  readonly blockScales?: readonly BlockScales[];
  /** Of a tower that is not the text's: neither quantized nor cast unless a type was asked for. */
  readonly isOtherTower?: boolean;
}

/** Architectures whose output shares the embedding's weights unless config.json says otherwise (as in mlx-lm). */
const TIED_UNLESS_TOLD = new Set(
  'llama qwen2 granite olmo2 seed_oss starcoder2 smollm3 ministral3'.split(' '),
);

/** Architectures that take an output matrix where there is one, whatever config.json says. */
const HEAD_STAYS = new Set(['gemma3_text']);

/** Architectures whose filters as published differ from MLX's in their shape alone. */
const FILTERS_AS_PUBLISHED = /^lfm2/;

/** Names of experts in checkpoints of transformers, and what mlx-lm calls them. */
const EXPERT =
  /^(.+)\.experts\.(\d+)\.(w[123]|gate_proj|up_proj|down_proj)\.(weight|scales|biases)$/;
const EXPERT_NAMES: Readonly<Record<string, string>> = {
  w1: 'gate_proj',
  w2: 'down_proj',
  w3: 'up_proj',
};

/** What shows that a checkpoint has the layout of its first publisher, which its architecture does not load as is. */
const FOREIGN: readonly {
  readonly types: RegExp;
  readonly name: RegExp;
}[] = [
  { types: /./, name: /\.(qweight|qzeros|g_idx|weight_scale_inv|weight_shape)$/ },
  { types: /^(?!bitnet$)/, name: /\.weight_scale$/ },
  { types: /^gpt_oss$/, name: /gate_up_proj|_blocks$/ },
  { types: /^(deepseek_v3|deepseek_v32|glm4_moe_lite|mistral4)$/, name: /\.kv_b_proj\./ },
  { types: /^qwen3_(next|5)/, name: /\.experts\.\d+\.|^mtp\.|\.mtp\./ },
  { types: /^gpt2$/, name: /^(h|wte|wpe|ln_f)\./ },
];

/**
 * Output matrices that are normalized at every load, which a packed one no longer can be: mlx-lm normalizes Baichuan's
 * before it packs it and fails on Bailing's.
 */
export function denseModules(config: Config, modelClass: string): string[] {
  const isNormalized =
    modelClass === 'baichuan_m1' ||
    (modelClass.startsWith('bailing') && config['norm_head'] === true);
  return isNormalized ? ['lm_head'] : [];
}

/** @throws MlxkError `not_implemented` for a layout that is not converted. */
export function parametersOf(
  tensors: readonly SourceTensor[],
  config: Config,
  { modelClass, isTower }: Route,
): Parameter[] {
  const stored = withMlxStorage(tensors, config);
  if (!isTower) return textParameters(stored, config, modelClass);
  const { text, others } = partTowers(stored, modelClass);
  return [
    ...textParameters(text, config, modelClass),
    ...others.map((tensor) => ({ ...single(tensor), isOtherTower: true })),
  ];
}

function textParameters(
  tensors: readonly SourceTensor[],
  config: Config,
  modelClass: string,
): Parameter[] {
  refuseForeign(tensors, modelClass);
  const tied = config['tie_word_embeddings'] ?? TIED_UNLESS_TOLD.has(modelClass);
  const parameters: Parameter[] = [];
  const experts = new Map<string, SourceTensor[]>();
  for (const tensor of tensors.flatMap((each) =>
    unfused(withMlxFilter(each, modelClass), modelClass),
  )) {
    if (tensor.name.includes('self_attn.rotary_emb.inv_freq')) continue;
    if (tied === true && !HEAD_STAYS.has(modelClass) && tensor.name.startsWith('lm_head.'))
      continue;
    const [, prefix = '', number, projection = '', kind = ''] = EXPERT.exec(tensor.name) ?? [];
    if (number === undefined) {
      parameters.push(single(tensor));
      continue;
    }
    const module = modelClass.startsWith('gemma4') ? 'experts.switch_glu' : 'switch_mlp';
    const name = `${prefix}.${module}.${EXPERT_NAMES[projection] ?? projection}.${kind}`;
    const parts = experts.get(name) ?? [];
    parts[Number(number)] = tensor;
    experts.set(name, parts);
  }
  for (const [name, parts] of experts) parameters.push(stacked(name, parts));
  return parameters;
}

/** Filters of one channel each, [channels, 1, width], hold the same numbers in the same order as MLX's [channels, width, 1]. */
function withMlxFilter(tensor: SourceTensor, modelClass: string): SourceTensor {
  const [channels = 0, one, width = 0] = tensor.shape;
  const isFilter = tensor.name.endsWith('.conv.conv.weight') && one === 1;
  if (!FILTERS_AS_PUBLISHED.test(modelClass) || !isFilter) return tensor;
  return { ...tensor, shape: [channels, width, 1] };
}

/**
 * Some publish the experts of a layer in two tensors, those of gate before those of up: Gemma 4 as [experts, rows,
 * columns], Qwen3-VL transposed.
 */
function unfused(tensor: SourceTensor, modelClass: string): SourceTensor[] {
  const [, prefix, projection] =
    /^(.+\.experts)\.(gate_up_proj|down_proj)$/.exec(tensor.name) ?? [];
  if (prefix === undefined || tensor.shape.length !== 3) return [tensor];
  const names = projection === 'down_proj' ? ['down_proj'] : ['gate_proj', 'up_proj'];
  if (modelClass === 'qwen3_vl_moe') return transposedExperts(tensor, prefix, names);
  return modelClass.startsWith('gemma4') ? experts(tensor, prefix, names) : [tensor];
}

function transposedExperts(
  tensor: SourceTensor,
  prefix: string,
  names: readonly string[],
): SourceTensor[] {
  const [count = 0, columns = 0, width = 0] = tensor.shape;
  const rows = width / names.length;
  const bytes = tensor.bytes / count;
  return Array.from({ length: count }, (_, expert) =>
    names.map((name, place) => ({
      ...tensor,
      name: `${prefix}.${expert}.${name}.weight`,
      shape: [rows, columns],
      begin: tensor.begin + expert * bytes,
      bytes,
      transposed: { width, first: place * rows },
    })),
  ).flat();
}

function experts(tensor: SourceTensor, prefix: string, names: readonly string[]): SourceTensor[] {
  const [count = 0, rows = 0, columns = 0] = tensor.shape;
  const bytes = tensor.bytes / count / names.length;
  const shape = [rows / names.length, columns];
  return Array.from({ length: count }, (_, expert) =>
    names.map((name, place) => ({
      ...tensor,
      name: `${prefix}.${expert}.${name}.weight`,
      shape,
      begin: tensor.begin + (expert * names.length + place) * bytes,
      bytes,
    })),
  ).flat();
}

function single(tensor: SourceTensor): Parameter {
  const { name, encoding, shape, interleavedHeads, transposed, add, times, blockScales } = tensor;
  return {
    name,
    encoding,
    shape,
    parts: [tensor],
    ...(interleavedHeads !== undefined && { interleavedHeads }),
    ...(transposed !== undefined && { transposed }),
    ...(add !== undefined && { add }),
    ...(times !== undefined && { times }),
    ...(blockScales !== undefined && { blockScales: [blockScales] }),
  };
}

function stacked(name: string, parts: readonly (SourceTensor | undefined)[]): Parameter {
  const whole = Array.from(parts).filter((part) => part !== undefined);
  const [first] = whole;
  const alike =
    first !== undefined &&
    whole.length === parts.length &&
    whole.every(
      (part) =>
        part.encoding === first.encoding &&
        part.shape.join() === first.shape.join() &&
        part.blockScales?.block.join() === first.blockScales?.block.join() &&
        part.blockScales?.scales.encoding === first.blockScales?.scales.encoding,
    );
  if (!alike) {
    throw new MlxkError(
      'validation_error',
      `the experts of ${name} are not all there or differ in shape`,
      {
        reason: 'experts_invalid',
        detail: { tensor: name },
      },
    );
  }
  const blockScales = whole.flatMap((part) => part.blockScales ?? []);
  return {
    name,
    encoding: first.encoding,
    shape: [whole.length, ...first.shape],
    parts: whole,
    ...(first.transposed !== undefined && { transposed: first.transposed }),
    ...(first.times !== undefined && { times: first.times }),
    ...(blockScales.length > 0 && { blockScales }),
  };
}

function refuseForeign(tensors: readonly SourceTensor[], modelClass: string): void {
  const rules = FOREIGN.filter(({ types }) => types.test(modelClass));
  const found = tensors.find(
    ({ name, shape }) =>
      rules.some((rule) => rule.name.test(name)) ||
      // Convolutions come as [channels, 1, width] and are [channels, width, 1] in MLX.
      (!FILTERS_AS_PUBLISHED.test(modelClass) &&
        /conv(1d)?\.weight$/.test(name) &&
        shape.length === 3 &&
        shape[1] === 1 &&
        shape[2] !== 1),
  );
  if (found === undefined) return;
  throw new MlxkError(
    'not_implemented',
    `tensor "${found.name}" is in a layout of ${modelClass} that is not converted yet; ` +
      'start from a checkpoint in MLX format',
    { reason: 'layout_unsupported', detail: { tensor: found.name, model_type: modelClass } },
  );
}
