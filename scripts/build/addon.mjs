// Compiles mlx-c, the core and the addon with CMake, through cmake-js, which knows Node's headers.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

import { cmakeFolder, root, textLibrary } from './paths.mjs';
import { run } from './run.mjs';

const require = createRequire(import.meta.url);

/** Jobs that fit the processors and, at 1 GB for each compiler, the memory. */
export const jobs = Math.max(
  1,
  Math.min(os.availableParallelism(), Math.floor(os.totalmem() / 2 ** 30)),
);

/**
 * @typedef {{ backend: string, mlx: string | undefined, mlxC: string | undefined }} AddonInputs `mlx` and `mlxC` are
 *   the folders of the wheel and of mlx-c's sources; both undefined take the installed ones.
 */

/** @param {AddonInputs} inputs */
export async function configureAddon(inputs) {
  const definitions = cmakeDefinitions(inputs);
  const args = [...commonArgs(), ...definitions.map(([name, value]) => `--CD${name}=${value}`)];
  const stamp = path.join(cmakeFolder, 'configured');
  const wanted = JSON.stringify([root, args]);
  const same =
    existsSync(path.join(cmakeFolder, 'CMakeCache.txt')) &&
    existsSync(stamp) &&
    readFileSync(stamp, 'utf8') === wanted;
  if (same) return;
  mkdirSync(cmakeFolder, { recursive: true });
  await cmakeJs(['configure', ...args]);
  writeFileSync(stamp, wanted);
}

/**
 * @param {AddonInputs} inputs
 * @returns {[string, string][]}
 */
function cmakeDefinitions({ backend, mlx, mlxC }) {
  return [
    ['MLXK_BACKEND', backend],
    ['MLXK_MLX_DIR', mlx ? path.join(mlx, 'mlx') : ''],
    ['MLXK_MLXC_DIR', mlxC ?? ''],
    ['MLXK_TEXT_LIB', textLibrary],
    // The package carries no tests.
    ['MLXK_TESTS', existsSync(path.join(root, 'native', 'test')) ? 'ON' : 'OFF'],
    ...(backend === 'metal'
      ? [/** @type {[string, string]} */ (['CMAKE_OSX_DEPLOYMENT_TARGET', '14.0'])]
      : []),
  ];
}

/**
 * @param {string[]} targets
 * @param {(text: string) => void} note
 */
export async function compile(targets, note) {
  await run('cmake', ['--build', cmakeFolder, '--parallel', String(jobs), '--target', ...targets], {
    onLine: (line) => {
      const done = /^\[\s*(\d+%|\d+\/\d+)\]/.exec(line)?.[1];
      if (done) note(done);
    },
  });
}

function commonArgs() {
  return ['--directory', root, '--out', cmakeFolder];
}

/** @param {string[]} args */
function cmakeJs(args) {
  return run(process.execPath, [require.resolve('cmake-js/bin/cmake-js'), ...args]);
}
