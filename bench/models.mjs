/**
 * The model folders that are measured: tiny ones on which a step is nearly all host code, and the built-in model.
 */

import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
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

/**
 * Calls `task` with a folder of the same weights that names no stop id, so that both sides produce as many tokens as
 * they are asked for. Without a tokenizer too: ids are what is timed.
 */
export async function withoutStops(folder, task) {
  const bare = mkdtempSync(path.join(os.tmpdir(), 'mlxk-bench-'));
  try {
    const { eos_token_id: _, ...config } = JSON.parse(
      readFileSync(path.join(folder, 'config.json'), 'utf8'),
    );
    writeFileSync(path.join(bare, 'config.json'), JSON.stringify(config));
    for (const file of readdirSync(folder).filter((name) =>
      /^model.*\.(safetensors|json)$/.test(name),
    )) {
      symlinkSync(path.join(folder, file), path.join(bare, file));
    }
    return await task(bare);
  } finally {
    rmSync(bare, { recursive: true });
  }
}
