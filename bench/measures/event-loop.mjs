/**
 * How long Node's event loop is held up while a model generates in the same process: the delay of a one-millisecond
 * timer. An idle process is measured beside it, because the timer itself is not exact.
 */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { promptIds } from '../harness.mjs';
import { builtin, toys, withoutStops } from '../models.mjs';
import { median } from '../report.mjs';

const run = promisify(execFile);
const side = fileURLToPath(new URL('../sides/event-loop.mjs', import.meta.url));
const SECONDS = 5;
const RUNS = 5;

export async function measure() {
  const rows = [];
  for (const { name, folder } of [...builtin(), ...toys().slice(0, 1)]) {
    const samples = { idle: [], generating: [] };
    await withoutStops(folder, async (bare) => {
      for (let i = 0; i < RUNS; i++) {
        for (const what of Object.keys(samples)) {
          const request = { what, folder: bare, seconds: SECONDS, prompt: promptIds(bare, 16) };
          const { stdout } = await run(process.execPath, [side, JSON.stringify(request)]);
          samples[what].push(JSON.parse(stdout));
        }
      }
    });
    for (const [what, delays] of Object.entries(samples)) {
      for (const part of ['p50', 'p99', 'max']) {
        const values = delays.map((delay) => delay[part]);
        rows.push({
          name: `${name}, ${what}: ${part}`,
          unit: 'ms',
          mlxk: median(values),
          samples: values,
        });
      }
    }
  }
  return {
    conditions: `timer of 1 ms, ${RUNS} runs of ${SECONDS} s, pieces read as they come`,
    rows,
  };
}
