/**
 * From the start of a process to the first character of an answer: the two command lines on one model folder, one
 * prompt and fresh processes, with the files in the page cache.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { builtin } from '../models.mjs';
import { compare } from '../report.mjs';

const PROMPT = 'How do I list my models?';
const PAIRS = 7;
const command = fileURLToPath(new URL('../../bin/mlxk.js', import.meta.url));

export async function measure({ generate }) {
  const rows = [];
  for (const { name, folder } of builtin()) {
    const sides = {
      mlxk: () =>
        firstOutputMs(
          process.execPath,
          [command, 'run', folder, PROMPT, '--max-tokens', '32'],
          /./,
        ),
      // mlx_lm.generate prints a ruler before the answer; the answer begins on the next line.
      mlxLm: () =>
        firstOutputMs(
          generate,
          ['--model', folder, '--prompt', PROMPT, '--max-tokens', '32'],
          /=\n./,
        ),
    };
    await sides.mlxk();
    await sides.mlxLm();
    const pairs = [];
    for (let i = 0; i < PAIRS; i++) {
      const pair = {};
      for (const side of i % 2 === 0 ? ['mlxk', 'mlxLm'] : ['mlxLm', 'mlxk'])
        pair[side] = await sides[side]();
      pairs.push(pair);
    }
    rows.push(compare(`${name}: start to first token`, 'ms', 'lower', pairs));
  }
  return { conditions: 'mlxk run against mlx_lm.generate, fresh processes, warm page cache', rows };
}

/** Milliseconds from the start of a process until its output matches; the process then runs to its end. */
async function firstOutputMs(file, args, pattern) {
  const started = performance.now();
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  let ms;
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
    if (ms === undefined && pattern.test(output)) ms = performance.now() - started;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
  const [code] = await once(child, 'close');
  if (code !== 0 || ms === undefined)
    throw new Error(`${args[0]} ended with ${code}: ${errors.slice(-500)}`);
  return ms;
}
