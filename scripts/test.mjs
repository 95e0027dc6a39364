// What `npm test` runs: vitest over what is built, then one line `N passed, N failed`. Arguments go to vitest, for example a
// file's name.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { build, root } from './build/paths.mjs';

const require = createRequire(import.meta.url);
const vitest = path.join(path.dirname(require.resolve('vitest/package.json')), 'vitest.mjs');
const report = path.join(build, 'reports', 'vitest.json');

// Else the report of an earlier run would stand for one that died.
rmSync(report, { force: true });
mkdirSync(path.dirname(report), { recursive: true });
const { status } = spawnSync(
  process.execPath,
  [
    ...[vitest, 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`],
    ...process.argv.slice(2),
  ],
  { cwd: root, stdio: 'inherit' },
);

const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'));
// A file that cannot be loaded, and an error outside every test, have no test to their name.
const failed = status === 0 ? numFailedTests : Math.max(1, numFailedTests);
process.stdout.write(`${numPassedTests} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
