// What `npm run test:native` runs: the C++ tests and short runs of the fuzz programs, in the addon's own CMake folder, so
// that mlx-c and the core are not compiled twice; then one line `N passed, N failed`.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';

import { compile } from './build/addon.mjs';
import { build, cmakeFolder } from './build/paths.mjs';

const report = path.join(build, 'reports', 'ctest.xml');

try {
  await compile(['mlxk_tests'], (text) => process.stderr.write(`${text}\n`));
} catch (error) {
  process.stderr.write(`${/** @type {Error} */ (error).message}\n`);
  process.exit(1);
}
rmSync(report, { force: true });
mkdirSync(path.dirname(report), { recursive: true });
spawnSync('ctest', ['--test-dir', cmakeFolder, '--output-on-failure', '--output-junit', report], {
  stdio: 'inherit',
});

const suite = /<testsuite\b[^>]*>/.exec(readFileSync(report, 'utf8'))?.[0] ?? '';
const [tests, failed] = [count('tests'), count('failures')];
process.stdout.write(`${tests - failed} passed, ${failed} failed\n`);
process.exitCode = tests > 0 && failed === 0 ? 0 : 1;

/** @param {string} name */
function count(name) {
  return Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
}
