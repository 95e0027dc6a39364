// Is there a prebuilt addon that fits this machine? Fits means: it loads, in a process of its own.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { defaultBackend } from './backend.mjs';
import { root } from './paths.mjs';

const require = createRequire(import.meta.url);

/**
 * @param {string} backend
 * @returns {{ file?: string, why?: string }} The addon's file, or why the one that is there does not fit.
 */
export function fittingPrebuild(backend) {
  if (backend !== defaultBackend() || !existsSync(path.join(root, 'prebuilds'))) return {};
  /** @type {string} */
  let file;
  try {
    const prebuilds = path.join(root, 'prebuilds', '..');
    process.env.PREBUILDS_ONLY = '1';
    file = require('node-gyp-build').resolve(prebuilds);
  } catch {
    return { why: `no prebuild for ${process.platform}-${process.arch}` };
  }
  const why = loadFault(file);
  return why === undefined ? { file } : { why };
}

/**
 * Why an addon cannot be loaded, or undefined.
 * @param {string} file
 * @returns {string | undefined}
 */
export function loadFault(file) {
  const script = 'require(process.argv[1]).version()';
  const { status, signal, stderr } = spawnSync(process.execPath, ['-e', script, file], {
    encoding: 'utf8',
  });
  if (status === 0) return undefined;
  const reason = stderr.split('\n').find((line) => /error/i.test(line)) ?? stderr.trim();
  return `${path.relative(root, file)} does not load (${signal ?? `exit code ${status}`}): ${reason}`;
}
