/**
 * Rebuilds `model.safetensors.index.json` from the headers of the weight files that are there.
 */

import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';

export const INDEX_NAME = 'model.safetensors.index.json';

/** Names of the tensors in a safetensors file. */
export type ReadNames = (file: string) => Promise<readonly string[]>;

export interface ShardIndex {
  readonly metadata: { readonly total_size: number };
  readonly weight_map: Readonly<Record<string, string>>;
}

/**
 * Reads every shard's header.
 *
 * @returns `undefined` when there are fewer than two weight files, which need no index.
 * @throws MlxkError `validation_error` / `tensor_duplicate`, and what `names` throws for a broken file.
 */
export async function rebuiltIndex(
  folder: string,
  names: ReadNames,
): Promise<ShardIndex | undefined> {
  const shards = (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
  if (shards.length < 2) return undefined;
  const map = new Map<string, string>();
  let totalSize = 0;
  for (const shard of shards) {
    const file = path.join(folder, shard);
    totalSize += (await stat(file)).size;
    for (const tensor of await names(file)) {
      const earlier = map.get(tensor);
      if (earlier !== undefined) {
        throw new MlxkError(
          'validation_error',
          `Duplicate tensor "${tensor}" found in ${earlier} and ${shard}`,
          { reason: 'tensor_duplicate', detail: { tensor, files: [earlier, shard] } },
        );
      }
      map.set(tensor, shard);
    }
  }
  const sorted = [...map].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return { metadata: { total_size: totalSize }, weight_map: Object.fromEntries(sorted) };
}
