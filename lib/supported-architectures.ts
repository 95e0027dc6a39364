/**
 * The architectures (`model_type` of config.json) that the engine runs, for what must not load it.
 * Made by `npm run build:ts` from the registrations in native/models; do not edit.
 */

export const SUPPORTED_ARCHITECTURES: readonly string[] = [
  'ernie4_5',
  'exaone4',
  'gemma',
  'gemma3_text',
  'glm4',
  'granite',
  'llama',
  'mistral',
  'olmo2',
  'olmo3',
  'phi3',
  'qwen2',
  'qwen3',
  'seed_oss',
  'smollm3',
];
