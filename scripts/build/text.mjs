// Builds the Rust crate native/text into a static library.

import { BuildFailure } from './failure.mjs';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { root, textFolder, textLibrary } from './paths.mjs';
import { run } from './run.mjs';

const manifest = path.join('native', 'text', 'Cargo.toml');

/** @param {(text: string) => void} note */
export async function buildText(note) {
  const lock = readFileSync(path.join(root, 'native', 'text', 'Cargo.lock'), 'utf8');
  const crates = lock.split('[[package]]').length - 1;
  let done = 0;
  const args = [
    'build',
    '--release',
    '--locked',
    '--manifest-path',
    manifest,
    '--target-dir',
    textFolder,
  ];
  await run('cargo', args, {
    onLine: (line) => {
      const crate = /^\s*Compiling (\S+)/.exec(line)?.[1];
      if (crate) note(`${crate}, crate ${++done} of at most ${crates}`);
    },
  });
  if (!existsSync(textLibrary)) throw new BuildFailure(`cargo made no ${textLibrary}.`);
}
