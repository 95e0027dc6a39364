// Building and running the C++ tests in a folder of CMake.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';

import { jobs } from './addon.mjs';
import { bringMlxC } from './mlx-c.mjs';
import { build, root } from './paths.mjs';
import { run } from './run.mjs';

const reports = path.join(build, 'reports');

/**
 * Configures and compiles the tests for something else than the addon's own folder is for.
 * @param {string} folder
 * @param {string} mlx Folder of the unpacked wheel.
 * @param {Record<string, string>} definitions For CMake.
 */
export async function buildTests(folder, mlx, definitions) {
  const all = {
    MLXK_TESTS: 'ON',
    MLXK_MLX_DIR: path.join(mlx, 'mlx'),
    MLXK_MLXC_DIR: await bringMlxC(),
    ...definitions,
  };
  const options = Object.entries(all).map(([name, value]) => `-D${name}=${value}`);
  await run('cmake', ['-S', root, '-B', folder, ...options]);
  await run('cmake', ['--build', folder, '--parallel', String(jobs), '--target', 'mlxk_tests']);
}

/**
 * Runs the tests of a folder and counts them.
 * @param {string} folder
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {boolean} Whether there were any and all passed; the counts are printed.
 */
export function runTests(folder, env = {}) {
  const report = path.join(reports, `ctest-${path.basename(folder)}.xml`);
  rmSync(report, { force: true });
  mkdirSync(reports, { recursive: true });
  spawnSync(
    'ctest',
    [
      ...['--test-dir', folder, '--parallel', String(jobs), '--output-on-failure'],
      ...['--output-junit', report],
    ],
    { stdio: 'inherit', env: { ...process.env, ...env } },
  );
  const suite = /<testsuite\b[^>]*>/.exec(readFileSync(report, 'utf8'))?.[0] ?? '';
  const count = (/** @type {string} */ name) =>
    Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
  const failed = count('failures');
  const passed = count('tests') - failed - count('skipped') - count('disabled');
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  return passed > 0 && failed === 0;
}

/**
 * The main function of a script: what fails is told without a stack.
 * @param {() => Promise<boolean>} body Whether all went well.
 */
export async function report(body) {
  try {
    process.exitCode = (await body()) ? 0 : 1;
  } catch (error) {
    process.stderr.write(`${/** @type {Error} */ (error).message}\n`);
    process.exitCode = 1;
  }
}
