/**
 * A model on the hub server, large enough to be fetched in pieces, and how tests pull it: without pauses.
 */

import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';

import type { PullOptions } from '../../lib/cache/pull.js';
import { type HubFile, hubFile } from './hub-server/index.js';

export const PIECE_BYTES = 64 * 1024;

/** Settings under which a test does not wait for anything but the server. */
export const QUICK = { pieceBytes: PIECE_BYTES, retry: { attempts: 5, delayMs: 1 } } as const;

/** Bytes that look random and are the same each time. */
export function noise(bytes: number, seed: string): Buffer {
  const blocks: Buffer[] = [];
  for (let index = 0; index * 32 < bytes; index++) {
    blocks.push(createHash('sha256').update(`${seed} ${index}`).digest());
  }
  return Buffer.concat(blocks).subarray(0, bytes);
}

/** A healthy sharded model of `shards` files of weights. */
export function modelFiles({
  shards = 3,
  shardBytes = 5 * PIECE_BYTES - 1,
  seed = 'a',
} = {}): HubFile[] {
  const names = Array.from({ length: shards }, (_, index) => {
    const number = (count: number): string => String(count).padStart(5, '0');
    return `model-${number(index + 1)}-of-${number(shards)}.safetensors`;
  });
  const weightMap = Object.fromEntries(names.map((name, index) => [`layer.${index}`, name]));
  return [
    hubFile('.gitattributes', '*.safetensors filter=lfs\n'),
    hubFile('README.md', `---\nlibrary_name: mlx\n---\n# ${seed}\n`),
    hubFile(
      'config.json',
      JSON.stringify({ model_type: 'llama', quantization: { bits: 4 }, seed }),
    ),
    hubFile('model.safetensors.index.json', JSON.stringify({ weight_map: weightMap })),
    hubFile('tokenizer.json', `{"version": "1.0", "seed": ${JSON.stringify(seed)}}`),
    hubFile('tokenizer_config.json', '{"chat_template": "x"}'),
    ...names.map((name) => hubFile(name, noise(shardBytes, `${seed} ${name}`))),
    hubFile('extra/notes.txt', 'a file in a folder\n'),
  ];
}

/** Options that point a pull at a server and a cache. */
export function into(cacheFolder: string, endpoint: string, more: PullOptions = {}): PullOptions {
  return { cacheFolder, endpoint, token: null, ...QUICK, ...more };
}

/** Every path below a folder, sorted; nothing when the folder is not there. */
export function everythingIn(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  } catch {
    return [];
  }
}

/** Partial and temporary files that were left behind. */
export function straysIn(cacheFolder: string): string[] {
  return everythingIn(cacheFolder).filter((file) => /\.(incomplete|tmp|partial)$/.test(file));
}

/** What of the files is not in the snapshot as it should be: byte for byte, as a relative link to the blob. */
export function wrongIn(snapshot: string, files: readonly HubFile[]): string[] {
  const wrong = files.filter((file) => {
    const pointer = path.join(snapshot, file.path);
    try {
      if (!lstatSync(pointer).isSymbolicLink() || path.isAbsolute(readlinkSync(pointer)))
        return true;
      return !readFileSync(pointer).equals(file.content);
    } catch {
      return true;
    }
  });
  return wrong.map((file) => file.path);
}
