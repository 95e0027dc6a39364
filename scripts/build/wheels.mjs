// Brings wheels from the Python package index, pinned by version and SHA-256 in deps/*.txt, and unpacks them. MLX comes
// this way, Apple's own builds of it.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import { BuildFailure } from './failure.mjs';
import { hashOf } from './inputs.mjs';
import { deps } from './paths.mjs';
import { run } from './run.mjs';

/**
 * @param {string} name Of the requirements file, for example `mlx-cpu`.
 * @param {(text: string) => void} note
 * @param {string} [platform] Another one than this machine's, as wheels name it: `manylinux_2_35_aarch64`.
 * @returns {Promise<string>} The folder that the wheels were unpacked to.
 */
export async function bringWheels(name, note, platform) {
  const lock = `deps/${name}.txt`;
  const folder = path.join(deps, platform ? `${name}-${platform}` : name);
  const stamp = path.join(folder, 'complete');
  const hash = hashOf(lock);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return folder;

  const partial = `${folder}.partial`;
  for (const old of [folder, partial]) rmSync(old, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  note('downloading');
  await run(
    'python3',
    [
      ...['-m', 'pip', 'download', '--no-deps', '--require-hashes', '--only-binary', ':all:'],
      ...(platform ? ['--platform', platform] : []),
      ...['--progress-bar', 'off', '--no-input', '--requirement', lock, '--dest', partial],
    ],
    { onLine: (line) => note(line.trim()) },
  );
  const wheels = readdirSync(partial).filter((name) => name.endsWith('.whl'));
  if (wheels.length === 0) throw new BuildFailure(`pip downloaded no wheel for ${lock}.`);
  for (const wheel of wheels) {
    note(`unpacking ${wheel}`);
    const file = path.join(partial, wheel);
    await run('python3', ['-m', 'zipfile', '-e', file, partial]);
    rmSync(file);
  }
  writeFileSync(path.join(partial, 'complete'), hash);
  renameSync(partial, folder);
  return folder;
}
