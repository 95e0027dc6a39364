// What `npm run test:arm64` runs on x64: the C++ tests, cross-compiled for arm64 and run by QEMU, each instruction set on
// a processor that has no more than it. Where compiler or emulator are missing it says so and tests nothing;
// `--install` has apt-get bring them first, if this is root's to do.

import { spawnSync } from 'node:child_process';
import path from 'node:path';

import { buildTests, report, runTests } from './build/native-tests.mjs';
import { build } from './build/paths.mjs';
import { bringWheels } from './build/wheels.mjs';

const compiler = 'aarch64-linux-gnu-g++';
const emulators = ['qemu-aarch64', 'qemu-aarch64-static'];
const packages = ['g++-aarch64-linux-gnu', 'qemu-user'];

/** @param {string} command */
const exists = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
const findEmulator = () => emulators.find(exists);
const complete = () => exists(compiler) && findEmulator() !== undefined;

function install() {
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  spawnSync('apt-get', ['update', '-qq'], options);
  spawnSync('apt-get', ['install', '-qq', '-y', '--no-install-recommends', ...packages], options);
}

/** Why nothing can be tested here, or undefined. */
function obstacle() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `this is ${process.platform}-${process.arch}, and cross-compiling is done on linux-x64`;
  }
  const mayInstall = process.argv.includes('--install') && process.getuid?.() === 0;
  if (!complete() && mayInstall && exists('apt-get')) install();
  return complete() ? undefined : `needs ${compiler} and ${emulators[0]} (${packages.join(', ')})`;
}

await report(async () => {
  const why = obstacle();
  if (why) {
    process.stdout.write(`left out: ${why}\n`);
    return true;
  }
  const mlx = await bringWheels('mlx-cpu', () => undefined, 'manylinux_2_35_aarch64');
  const folder = path.join(build, 'arm64');
  await buildTests(folder, mlx, {
    CMAKE_SYSTEM_NAME: 'Linux',
    CMAKE_SYSTEM_PROCESSOR: 'aarch64',
    CMAKE_C_COMPILER: 'aarch64-linux-gnu-gcc',
    CMAKE_CXX_COMPILER: compiler,
    CMAKE_CROSSCOMPILING_EMULATOR: `${findEmulator()};-L;/usr/aarch64-linux-gnu`,
  });
  return runTests(folder, { MLXK_TEST_SHARE: '8' });
});
