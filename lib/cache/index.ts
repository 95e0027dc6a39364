/**
 * The model manager as an API: `import { cache } from 'mlxk'`. Re-exports only; one operation is one file.
 */

export type { Capability, Framework, Health, ModelEntry, ModelType } from './types.js';
