/**
 * A multimodal checkpoint, parted: the text tower under the names that mlx-lm and mlx-vlm give it, and everything else,
 * which a conversion leaves alone. Knows names only. The same towers are told apart where a model is loaded
 * (native/decoder.cpp, `language_tower`).
 */

import type { Parameter } from './parameters.js';
import type { Config, SourceTensor } from './source.js';

/** Modules that see, hear, or lead to the text tower; at the top, or within `model`. */
const OTHER_TOWERS = new RegExp(
  '^(?:model\\.)?(?:visual|vision_tower|vision_model|vision_encoder|vision_embed_tokens|vision_embedder|' +
    'vision_language_adapter|vision_adapter|vision_projection|audio_tower|embed_vision|embed_audio|' +
    'multi_modal_projector|mm_projector|patch_merge_mlp|patch_merger|image_newline)(?:\\.|$)',
);

/** Where publishers put the text tower, and its own place; the first that fits counts. */
const PLACES: readonly (readonly [string, string])[] = [
  ['language_model.', 'language_model.'],
  ['model.language_model.', 'language_model.model.'],
  ['model.', 'language_model.model.'],
  ['lm_head.', 'language_model.lm_head.'],
];

/** Types that mlx-lm loads under their published names alone; mlx-vlm knows those beside its own. */
const NAMES_STAY = new Set(['gemma3n']);

export interface PartedCheckpoint {
  readonly text: readonly SourceTensor[];
  readonly others: readonly SourceTensor[];
}

/** @param modelClass file of mlx-lm */
export function partTowers(tensors: readonly SourceTensor[], modelClass: string): PartedCheckpoint {
  const text: SourceTensor[] = [];
  const others: SourceTensor[] = [];
  for (const tensor of tensors) {
    if (OTHER_TOWERS.test(tensor.name)) others.push(tensor);
    else text.push(NAMES_STAY.has(modelClass) ? tensor : { ...tensor, name: placed(tensor.name) });
  }
  return { text, others };
}

function placed(name: string): string {
  const place = PLACES.find(([from]) => name.startsWith(from));
  return place === undefined ? name : place[1] + name.slice(place[0].length);
}

/**
 * Modules of a tower whose names stay are told of in config.json by both of their names: mlx-lm looks for the published
 * one, mlx-vlm for its own.
 */
export function underBothNames(quantization: Config, modelClass: string): Config {
  if (!NAMES_STAY.has(modelClass)) return quantization;
  const twins = Object.entries(quantization)
    .map(([name, entry]): [string, unknown] => [placed(name), entry])
    .filter(([name]) => !(name in quantization));
  return { ...quantization, ...Object.fromEntries(twins) };
}

const EMBEDDING = 'language_model.model.embed_tokens.';
const HEAD = 'language_model.lm_head.';

/**
 * mlx-vlm 0.7.10 makes an output matrix of Gemma 3's embedding whenever it loads one, which a packed embedding does not
 * survive: what it quantizes itself has both. So what is quantized here has both too.
 */
export function withHead(parameters: readonly Parameter[]): Parameter[] {
  if (parameters.some(({ name }) => name.startsWith(HEAD))) return [...parameters];
  const head = parameters.filter(({ name }) => name.startsWith(EMBEDDING));
  return [
    ...parameters,
    ...head.map((part) => ({ ...part, name: HEAD + part.name.slice(EMBEDDING.length) })),
  ];
}
