/**
 * The other side of every comparison: mlx-lm in a Python environment of its own, on the same libmlx as the addon.
 * Equal libmlx files are what makes a difference in time one of the host code.
 */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { addon } from '../dist/binding.js';

const run = promisify(execFile);
const here = path.dirname(fileURLToPath(import.meta.url));
const environment = path.join(here, '.venv');
const requirements = path.join(here, 'requirements.txt');
/** A copy of the requirements that the environment was made from. */
const stamp = path.join(environment, 'requirements.txt');

/** Programs of the peer's environment. */
export const peerPrograms = {
  python: path.join(environment, 'bin', 'python'),
  generate: path.join(environment, 'bin', 'mlx_lm.generate'),
};

/** Makes the environment where it is missing or older than its requirements; says so, because it takes minutes. */
export async function preparePeer() {
  const wanted = readFileSync(requirements, 'utf8');
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
    console.log(`Installing the peer into bench/.venv:\n${wanted}`);
    await run('python3', ['-m', 'venv', '--clear', environment]);
    await run(peerPrograms.python, ['-m', 'pip', 'install', '--quiet', '-r', requirements]);
    writeFileSync(stamp, wanted);
  }
  return peerPrograms;
}

/** @throws when the two sides would not run the same MLX. */
export async function requireSameMlx({ python }) {
  const ours = loadedMlx();
  const { stdout } = await run(python, [
    '-c',
    'import mlx.core, pathlib; print(next((pathlib.Path(mlx.core.__file__).parent / "lib").glob("libmlx.*")))',
  ]);
  const theirs = stdout.trim();
  if (sha256(ours) === sha256(theirs)) return;
  throw new Error(`the addon and mlx-lm load different builds of libmlx: ${ours} and ${theirs}`);
}

function loadedMlx() {
  addon();
  const { sharedObjects } = process.report.getReport();
  const file = sharedObjects.find((object) => /^libmlx\./.test(path.basename(object)));
  if (file === undefined) throw new Error('the addon has not loaded libmlx');
  return file;
}

function sha256(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}
