// Brings the sources of mlx-c, which the crate mlx-sys carries; Cargo.lock holds the checksum that cargo verifies. An
// installed mlx-c over exactly the same MLX is preferred to both downloads.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { hashOf } from './inputs.mjs';
import { build, deps, root } from './paths.mjs';
import { run } from './run.mjs';

/**
 * Whether CMake finds an installed mlx-c 0.7.0 over MLX 0.32.2. MLXK_SYSTEM_MLXC=0 does not look.
 * @returns {Promise<boolean>}
 */
export async function installedMlxC() {
  if (process.env.MLXK_SYSTEM_MLXC === '0') return false;
  const folder = path.join(build, 'probe');
  // Afresh each time: CMake remembers what it did not find.
  rmSync(folder, { recursive: true, force: true });
  await run('cmake', ['-S', path.join(root, 'cmake', 'probe'), '-B', folder]);
  return readFileSync(path.join(folder, 'found.txt'), 'utf8') === '1';
}

/** @returns {Promise<string>} The folder of mlx-c's CMakeLists.txt. */
export async function bringMlxC() {
  const target = path.join(deps, 'mlx-c');
  const stamp = path.join(target, 'complete');
  const hash = hashOf('deps/mlx-c/Cargo.lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return target;

  const crates = path.join(deps, 'crates');
  for (const old of [target, crates]) rmSync(old, { recursive: true, force: true });
  mkdirSync(deps, { recursive: true });
  const manifest = path.join('deps', 'mlx-c', 'Cargo.toml');
  await run('cargo', ['vendor', '--locked', '--manifest-path', manifest, crates]);
  renameSync(path.join(crates, 'mlx-sys', 'src', 'mlx-c'), target);
  rmSync(crates, { recursive: true, force: true });
  writeFileSync(stamp, hash);
  return target;
}
