// One build at a time in one folder: a second one waits for the first and then finds nothing to do.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

import { build } from './paths.mjs';

const POLL_MS = 500;
const file = path.join(build, 'lock');

/**
 * @template T
 * @param {() => Promise<T>} body
 * @returns {Promise<T>}
 */
export async function alone(body) {
  mkdirSync(build, { recursive: true });
  for (let said = false; !take(); said = true) {
    if (!said) process.stderr.write(`mlxk waits for the build of process ${holder()}\n`);
    await wait(POLL_MS);
  }
  process.on('exit', release);
  try {
    return await body();
  } finally {
    release();
    process.off('exit', release);
  }
}

function take() {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    if (!alive(holder())) rmSync(file, { force: true });
    return false;
  }
}

function holder() {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    // Released since.
    return 0;
  }
}

/** @param {number} pid */
function alive(pid) {
  if (!pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

function release() {
  rmSync(file, { force: true });
}
