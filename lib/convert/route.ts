/**
 * Whether a model can be converted at all, told from its config before anything is written. Text models are; what
 * sees or hears is refused by name, never converted without its eyes or ears.
 */

import { isLosslessNumber } from 'lossless-json';

import { MlxkError } from '../errors.js';
import { SUPPORTED_ARCHITECTURES } from '../supported-architectures.js';
import type { Config } from './source.js';

const VISION_TYPES = new Set(
  'llava pixtral qwen2_vl idefics2 idefics3 mllama mistral3 gemma3 mimo gemma4'.split(' '),
);
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

/** The file of mlx-lm that a text model's rules are found under. @throws MlxkError `not_implemented` or `unsupported_multimodal`. */
export function convertibleClass(config: Config, operation: string): string {
  const stated = config['model_type'];
  const type = typeof stated === 'string' ? stated : '';
  const lowered = type.toLowerCase();
  const name = type === '' ? '<unknown>' : type;
  const supported = SUPPORTED_ARCHITECTURES.includes(type);
  if (VISION_TYPES.has(lowered)) {
    throw notImplemented(
      `vision models such as ${name} are not converted yet`,
      name,
      operation,
      'vision',
    );
  }
  if (SPEECH_TYPES.has(lowered)) {
    throw notImplemented(
      `speech models such as ${name} are not converted`,
      name,
      operation,
      'speech',
    );
  }
  if (isJsonObject(config['vision_config']) || isJsonObject(config['audio_config'])) {
    throw new MlxkError(
      'unsupported_multimodal',
      `${name} takes pictures or sound and is not on the verified list, so it is not converted`,
      {
        reason: 'unsupported_multimodal',
        detail: { model_type: name, operation, verified_types: [...VISION_TYPES].sort() },
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
  return CLASS_OF[type] ?? type;
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
