/**
 * Whether this installation can run a model: the gates in their order, told from the same small files. Loads no
 * native code: which architectures there are is known from `supported-architectures.ts`.
 */

import { SUPPORTED_ARCHITECTURES } from '../supported-architectures.js';
import { configType, embedderKind } from './classify.js';
import type { ModelFolder } from './model-folder.js';
import type { Capability, Compatibility, Framework, Health } from './types.js';

const architectures: ReadonlySet<string> = new Set(SUPPORTED_ARCHITECTURES);

const COMPATIBLE: Compatibility = { compatible: true, reason: null };

/** What was found out about a model before. */
export interface Classified {
  /** Hub id, or the name of a workspace's folder. */
  readonly name: string;
  readonly health: Health;
  readonly framework: Framework;
  readonly capabilities: readonly Capability[];
}

export function compatibilityOf(model: ModelFolder, classified: Classified): Compatibility {
  const { name, health, framework, capabilities } = classified;
  if (!health.healthy) return incompatible(health.reason);
  if (framework !== 'MLX') return incompatible(`Incompatible framework: ${framework}`);

  const type = configType(model);
  const embedder = embedderKind(model, name);
  if (embedder === 'encoder') return COMPATIBLE;
  if (embedder === 'declared-encoder') {
    return incompatible(`Embedding encoder not vendored: ${type} — use bge/e5 or Qwen3-Embedding`);
  }
  if (isLegacy(model)) return incompatible('Legacy format not supported by mlx-lm');
  if (type === '') return incompatible('config.json missing model_type field');
  if (architectures.has(type)) return COMPATIBLE;
  const medium = (['vision', 'audio'] as const).find((entry) => capabilities.includes(entry));
  const what = medium === undefined ? '' : ` (${medium} model)`;
  return incompatible(`Model type '${type}' not supported${what}`);
}

function incompatible(reason: string): Compatibility {
  return { compatible: false, reason };
}

/** Weights under the names of the first converters, with none under today's beside them. */
function isLegacy(model: ModelFolder): boolean {
  const top = model.files.map(({ name }) => name).filter((name) => !name.includes('/'));
  const any = (pattern: RegExp): boolean => top.some((name) => pattern.test(name));
  if (any(/^model.*\.safetensors$/)) return false;
  return any(/^weights\.\d+\.safetensors$/) || any(/^pytorch_model-\d{5}.*\.safetensors$/);
}
