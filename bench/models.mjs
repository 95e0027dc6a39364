/**
 * The model folders that are measured: tiny ones on which a step is nearly all host code, and the built-in model.
 */

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** The built-in model, or nothing while it has not been made. */
export function builtin() {
  const folder = path.join(repository, 'builtin');
  return existsSync(path.join(folder, 'config.json')) ? [{ name: 'builtin', folder }] : [];
}

/** The repository's goldens, and those of MLXK_GOLDEN_DIR or `../shared/golden` where that is. */
export function toys() {
  const given = process.env.MLXK_GOLDEN_DIR || path.resolve(repository, '..', 'shared', 'golden');
  return [
    { name: 'toy llama, float32', folder: path.join(repository, 'test/goldens/llama') },
    { name: 'toy qwen3, 8-bit', folder: path.join(repository, 'test/goldens/qwen3-8bit-g128') },
    { name: 'golden llama, float32', folder: path.join(given, 'llama') },
    { name: 'golden qwen3, 8-bit', folder: path.join(given, 'qwen3-8bit') },
  ].filter(({ folder }) => existsSync(folder));
}
