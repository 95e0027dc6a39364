// Runs a tool and watches its output. The output is shown only when the tool fails.

import { spawn } from 'node:child_process';
import path from 'node:path';

import { BuildFailure } from './failure.mjs';
import { root } from './paths.mjs';

const KEPT_LINES = 80;

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
// A build that fails must not leave a compiler at work behind it.
process.on('exit', () => running.forEach((child) => child.kill()));

/**
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void }} [options]
 * @returns {Promise<string>} Standard output.
 */
export function run(command, args, { cwd = root, env, onLine } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    let output = '';
    /** @type {string[]} */
    const last = [];
    const watch = (/** @type {NodeJS.ReadableStream} */ stream, /** @type {boolean} */ keep) => {
      let rest = '';
      stream.setEncoding('utf8');
      stream.on('data', (/** @type {string} */ chunk) => {
        if (keep) output += chunk;
        const lines = (rest + chunk).split(/\r?\n|\r/);
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (last.push(line) > KEPT_LINES) last.shift();
          onLine?.(line);
        }
      });
      stream.on('end', () => {
        if (rest) last.push(rest);
      });
    };
    watch(child.stdout, true);
    watch(child.stderr, false);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      running.delete(child);
      if (code === 0) return resolve(output);
      const line = [path.basename(command), ...args].join(' ');
      reject(
        new BuildFailure(
          `${line}\nended with ${signal ?? `exit code ${code}`}. The end of its output:\n${last.join('\n')}`,
        ),
      );
    });
  });
}
