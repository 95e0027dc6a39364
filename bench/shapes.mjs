/**
 * Models with random weights, made once into `bench/.venv/models`: Qwen3-0.6B's shape in several number formats, and a
 * small gpt-oss; as MLX folders, and as GGUF files of the same numbers of bits.
 */

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const bench = fileURLToPath(new URL('.', import.meta.url));

export const models = path.join(bench, '.venv', 'models');

/**
 * @param {{ python: string }} peer
 * @param {'mlx' | 'gguf'} kind
 * @param {'q4' | 'q8' | 'bf16' | 'gpt_oss'} format
 * @returns the folder or file
 */
export async function shapeModel({ python }, kind, format) {
  const place = path.join(models, kind === 'mlx' ? format : `${format}.gguf`);
  if (!existsSync(place)) {
    mkdirSync(models, { recursive: true });
    console.log(`Making the ${format} model for ${kind}`);
    const script = format === 'gpt_oss' ? 'make_gpt_oss.py' : 'make_shape.py';
    await run(python, [path.join(bench, 'sides', script), kind, place, format]);
  }
  return place;
}
