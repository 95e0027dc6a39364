/**
 * The model object of the JSON contract.
 */

import type { ModelEntry } from '../cache/types.js';

export function modelObject(entry: ModelEntry): Record<string, unknown> {
  return {
    name: entry.name,
    hash: entry.hash,
    size_bytes: entry.sizeBytes,
    last_modified: entry.lastModified,
    framework: entry.framework,
    model_type: entry.modelType,
    capabilities: entry.capabilities,
    health: entry.health,
    runtime_compatible: entry.runtimeCompatible,
    reason: entry.reason,
    cached: entry.cached,
    origin: entry.origin,
    content_hash: entry.contentHash,
    hash_modified: entry.hashModified,
    clean: entry.clean,
    ...(entry.displayName !== undefined && { display_name: entry.displayName }),
    ...(entry.quantization !== undefined && { quantization: entry.quantization }),
  };
}
