/**
 * What a result depends on beside the code: processor, memory, system and versions. Names no host and no path.
 */

import { execFile } from 'node:child_process';
import os from 'node:os';
import { promisify } from 'node:util';

import { addon } from '../dist/binding.js';

const run = promisify(execFile);

export function describeMachine() {
  const cpus = os.cpus();
  return {
    cpu: cpus[0]?.model.trim() || 'unknown processor',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.platform()} ${os.arch()}`,
  };
}

/** Short name of a machine for a file: the system and processor, nothing that tells one owner from another. */
export function machineName({ cpu, cores, system }) {
  return `${system} ${cpu} ${cores} cores`
    .toLowerCase()
    .replace(/\(r\)|\(tm\)|cpu|processor/g, '')
    .replace(/[^a-z0-9]+/g, '-');
}

export async function describeVersions({ python }) {
  const { mlxk, mlx, backend } = addon().version();
  const { stdout } = await run(python, [
    '-c',
    'import platform; from importlib.metadata import version; print(version("mlx-lm"), platform.python_version())',
  ]);
  const [mlxLm, pythonVersion] = stdout.trim().split(' ');
  return {
    mlxk,
    'mlx-lm': mlxLm,
    mlx: `${mlx} (${backend})`,
    node: process.versions.node,
    python: pythonVersion,
  };
}
