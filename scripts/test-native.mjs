// What `npm run test:native` runs: the C++ tests and short runs of the fuzz programs, in the addon's own CMake folder, so
// that mlx-c and the core are not compiled twice; then one line `N passed, N failed`.

import { compile } from './build/addon.mjs';
import { report, runTests } from './build/native-tests.mjs';
import { cmakeFolder } from './build/paths.mjs';

await report(async () => {
  await compile(['mlxk_tests'], (text) => process.stderr.write(`${text}\n`));
  return runTests(cmakeFolder);
});
