/**
 * One process that brings a model's weights into memory once, by `load` or by plain reads of its file, and prints how
 * long that took and how much more memory the process held at its peak. The addon is loaded before, on both sides.
 */

import { Buffer } from 'node:buffer';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';

import { addon } from '../../dist/binding.js';
import { load } from '../../dist/index.js';

const [, , way, folder] = process.argv;
const MOST_AT_ONCE = 2 ** 30;

function peakBytes() {
  const kilobytes = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1];
  return Number(kilobytes) * 1024;
}

function readWhole(file) {
  const handle = openSync(file);
  const { size } = fstatSync(handle);
  const memory = Buffer.allocUnsafeSlow(size);
  for (let at = 0; at < size;) {
    at += readSync(handle, memory, at, Math.min(size - at, MOST_AT_ONCE), at);
  }
  closeSync(handle);
}

addon();
const before = peakBytes();
const started = performance.now();
if (way === 'load') await load(folder);
else readWhole(path.join(folder, 'model.safetensors'));
const ms = performance.now() - started;
process.stdout.write(`${JSON.stringify({ ms, grownBytes: peakBytes() - before })}\n`);
process.exit(0);
