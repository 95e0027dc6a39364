// A fingerprint of everything the addon is made from. Equal fingerprints mean there is nothing to build.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { root } from './paths.mjs';

const require = createRequire(import.meta.url);

const SOURCES = [
  'CMakeLists.txt',
  'cmake',
  'deps',
  'native',
  'scripts/build',
  'scripts/install.mjs',
];
const LEFT_OUT = new Set(['target', 'test', 'tests', 'vendor']);

/** @param {string} backend */
export function fingerprint(backend) {
  const hash = createHash('sha256');
  const { version } = require('../../package.json');
  const binding = require('node-addon-api/package.json').version;
  hash.update(
    JSON.stringify([
      backend,
      process.platform,
      process.arch,
      version,
      binding,
      process.env.CXX ?? '',
    ]),
  );
  for (const source of SOURCES) addTo(hash, source);
  return hash.digest('hex');
}

/** @param {string[]} files Below the root. */
export function hashOf(...files) {
  const hash = createHash('sha256');
  for (const file of files) addTo(hash, file);
  return hash.digest('hex');
}

/**
 * @param {import('node:crypto').Hash} hash
 * @param {string} name
 */
function addTo(hash, name) {
  const full = path.join(root, name);
  if (!existsSync(full)) return;
  const entries = folderEntries(full);
  if (entries === undefined) {
    hash.update(`${name}\0`).update(readFileSync(full));
    return;
  }
  for (const entry of entries) if (!LEFT_OUT.has(entry)) addTo(hash, path.posix.join(name, entry));
}

/** @param {string} full */
function folderEntries(full) {
  try {
    return readdirSync(full).sort();
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOTDIR') return undefined;
    throw error;
  }
}
