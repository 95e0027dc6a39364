/**
 * Whether a model can be converted at all, told from its config before anything is written. Text models are, and the
 * text towers of multimodal checkpoints whose layout is known; what else sees or hears is refused by name, never
 * converted without its eyes or ears.
 */

import { isLosslessNumber } from 'lossless-json';

import { MlxkError } from '../errors.js';
import { SUPPORTED_ARCHITECTURES } from '../supported-architectures.js';
import type { Config } from './source.js';

/** Multimodal types whose text tower is converted, and everything else left as it is. */
const TOWER_TYPES = new Set(
  (
    'gemma3 gemma3n gemma4 gemma4_unified kimi_vl llava mistral3 pixtral ' +
    'qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe lfm2-vl'
  ).split(' '),
);
const VISION_TYPES = new Set([...TOWER_TYPES, 'idefics2', 'idefics3', 'mllama']);
const SPEECH_TYPES = new Set(['whisper', 'vibevoice', 'voxtral']);

/** Types that mlx-lm loads with another type's classes (`MODEL_REMAPPING`). */
const CLASS_OF: Readonly<Record<string, string>> = {
  falcon_mamba: 'mamba',
  iquestcoder: 'llama',
  joyai_llm_flash: 'deepseek_v3',
  kimi_k2: 'deepseek_v3',
  minimax_m2: 'minimax',
  mistral: 'llama',
  qwen2_5_vl: 'qwen2_vl',
  xverse: 'llama',
};

/** How a model is converted. */
export interface Route {
  /** The file of mlx-lm that the rules of its text model are found under. */
  readonly modelClass: string;
  /** Only the text tower is converted. */
  readonly isTower: boolean;
}

/** @throws MlxkError `not_implemented` or `unsupported_multimodal`. */
export function routeOf(config: Config, operation: string): Route {
  const stated = config['model_type'];
  const type = typeof stated === 'string' ? stated : '';
  const lowered = type.toLowerCase();
  const name = type === '' ? '<unknown>' : type;
  const supported = SUPPORTED_ARCHITECTURES.includes(type);
  const isTower = TOWER_TYPES.has(type) && supported;
  if (isTower) return { modelClass: CLASS_OF[type] ?? type, isTower };
  const kind = VISION_TYPES.has(lowered) ? 'vision' : SPEECH_TYPES.has(lowered) ? 'speech' : '';
  if (kind !== '') {
    const message = `${kind} models such as ${name} are not converted`;
    throw notImplemented(message, name, operation, kind);
  }
  if (isJsonObject(config['vision_config']) || isJsonObject(config['audio_config'])) {
    throw new MlxkError(
      'unsupported_multimodal',
      `${name} takes pictures or sound and is not on the verified list, so it is not converted`,
      {
        reason: 'unsupported_multimodal',
        detail: { model_type: name, operation, verified_types: [...TOWER_TYPES].sort() },
      },
    );
  }
  if (!supported) {
    const known = SUPPORTED_ARCHITECTURES.join(', ');
    throw notImplemented(
      `model_type "${name}" is not supported; supported: ${known}`,
      name,
      operation,
      'text',
    );
  }
  return { modelClass: CLASS_OF[type] ?? type, isTower };
}

function notImplemented(
  message: string,
  type: string,
  operation: string,
  route: string,
): MlxkError {
  return new MlxkError('not_implemented', message, {
    reason: 'model_type_unsupported',
    detail: { model_type: type, operation, route },
  });
}

/** An empty object counts. */
function isJsonObject(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !isLosslessNumber(value)
  );
}
