// What `npm run test:sanitized` runs: the C++ tests under the address and undefined-behaviour sanitizers, or under those
// that are named (`thread`). Linux only: there the wheel of MLX is one for the CPU.

import path from 'node:path';

import { buildTests, report, runTests } from './build/native-tests.mjs';
import { build } from './build/paths.mjs';
import { bringWheels } from './build/wheels.mjs';

const sanitizers = process.argv[2] ?? 'address,undefined';

await report(async () => {
  const folder = path.join(build, `sanitized-${sanitizers.replace(',', '-')}`);
  const mlx = await bringWheels('mlx-cpu', () => undefined);
  await buildTests(folder, mlx, {
    MLXK_SANITIZE: sanitizers,
    CMAKE_BUILD_TYPE: 'Debug',
    CMAKE_CXX_FLAGS_DEBUG: '-O1',
  });
  return runTests(folder, {
    // libmlx is not instrumented, and vectors cross to it.
    ASAN_OPTIONS: 'detect_container_overflow=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    MLXK_TEST_SHARE: '4',
  });
});
