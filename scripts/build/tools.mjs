// The tools a build from source needs: are they there, and new enough? A missing one is named together with the command
// that installs it.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { BuildFailure } from './failure.mjs';

const RUSTUP = 'https://rustup.rs';

/** @typedef {{ name: string, why: string | undefined, debian: string, macos: string }} Tool */

/**
 * @param {boolean} python Whether the MLX wheel has to be fetched.
 * @throws BuildFailure naming every tool that is missing or too old.
 */
export function checkTools(python) {
  /** @type {Tool[]} */
  const tools = [
    {
      name: 'a C++20 compiler',
      why: compilerFault(),
      debian: 'apt-get install g++',
      macos: 'xcode-select --install',
    },
    {
      name: 'CMake 3.24 or newer',
      why: cmakeFault(),
      debian: 'apt-get install cmake',
      macos: 'brew install cmake',
    },
    {
      name: 'make or ninja',
      why: versionFault('ninja', ['--version']) && versionFault('make', ['--version']),
      debian: 'apt-get install make',
      macos: 'xcode-select --install',
    },
    {
      // Debian 12 packages Rust 1.63, which is too old.
      name: 'cargo 1.85 or newer',
      why: versionFault('cargo', ['--version'], [1, 85]),
      debian: `rustup from ${RUSTUP}, or apt-get install cargo where it is new enough`,
      macos: 'brew install rust',
    },
  ];
  if (python) {
    tools.push({
      name: 'python3 with pip 20.3 or newer',
      why: versionFault('python3', ['-m', 'pip', '--version'], [20, 3]),
      debian: 'apt-get install python3-pip',
      macos: 'brew install python',
    });
  }
  const missing = tools.filter(({ why }) => why !== undefined);
  if (missing.length === 0) return;
  const macos = process.platform === 'darwin';
  const lines = missing.map(
    ({ name, why, debian, macos: mac }) =>
      `  ${name}: ${why}\n      ${macos ? 'macOS' : 'Debian'}:  ${macos ? mac : debian}\n` +
      `      ${macos ? 'Debian' : 'macOS'}:  ${macos ? debian : mac}`,
  );
  throw new BuildFailure(
    `mlxk is built from source and needs:\n${lines.join('\n')}\nThen run npm install again.`,
  );
}

/** Whether CMake can be asked for an installed mlx-c. */
export const hasCMake = () => cmakeFault() === undefined;

const cmakeFault = () => versionFault('cmake', ['--version'], [3, 24]);

/**
 * What is wrong with a tool, or undefined.
 * @param {string} command
 * @param {string[]} args
 * @param {[number, number]} [least]
 * @returns {string | undefined}
 */
function versionFault(command, args, least) {
  const { status, stdout, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (error || status !== 0) return 'not found';
  if (!least) return undefined;
  const found = /(\d+)\.(\d+)/.exec(stdout);
  if (!found) return `its version cannot be read from "${stdout.trim()}"`;
  const [major, minor] = [Number(found[1]), Number(found[2])];
  const enough = major > least[0] || (major === least[0] && minor >= least[1]);
  return enough ? undefined : `found ${major}.${minor}`;
}

/** Compiles a few lines of C++20, since no version number says what a compiler and its library can do together. */
function compilerFault() {
  const compiler = process.env.CXX || 'c++';
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mlxk-probe-'));
  try {
    const source = path.join(folder, 'probe.cpp');
    writeFileSync(
      source,
      '#include <concepts>\n#include <span>\nint main(int n, char**) { std::span<int> s(&n, 1);' +
        ' return [](std::integral auto i) { return i - i; }(s[0]); }\n',
    );
    const { status, error, stderr } = spawnSync(compiler, ['-std=c++20', '-fsyntax-only', source], {
      encoding: 'utf8',
    });
    if (error) return `${compiler} not found`;
    return status === 0 ? undefined : `${compiler} does not compile C++20: ${firstError(stderr)}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} text */
function firstError(text) {
  return text.split('\n').find((line) => line.includes('error')) ?? text.trim().slice(0, 200);
}
