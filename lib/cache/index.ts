/**
 * The model manager as an API: `import { cache } from 'mlxk'`. Re-exports only; one operation is one file.
 */

export { list } from './list.js';
export { show } from './show.js';
export { checkHealth as health } from './check.js';
export { remove } from './remove.js';
export { pull } from './pull.js';
export { push } from '../push/push.js';
export { clone } from '../workspace/clone.js';
export { convert } from '../convert/convert.js';

export type { CloneOptions, CloneResult } from '../workspace/clone.js';
export type { ConvertResult } from '../convert/convert.js';
export type { ConvertDtype, ConvertOptions, ConvertProgress } from '../convert/options.js';
export type { HealthEntry, HealthOptions, HealthReport } from './check.js';
export type { DeepProgress } from './deep.js';
export type { PullEvent, PullOptions, PullResult } from './pull.js';
export type { PushEvent, PushOptions, PushResult } from '../push/push.js';
export type { RemoveOptions, RemoveResult } from './remove.js';
export type { FileType, ModelMetadata, ShowOptions, ShownFile, ShownModel } from './show.js';
export type { Capability, Framework, ModelEntry, ModelType } from './types.js';
