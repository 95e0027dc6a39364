/**
 * Loading a model of 335 MB against plain reads of the same warm file, each in a fresh process, and the memory it takes
 * at its peak against the weights. Without mlx-lm; Linux only, where a process knows its peak.
 */

import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { compareWith, median } from '../report.mjs';
import { shapeModel } from '../shapes.mjs';

const run = promisify(execFile);
const side = fileURLToPath(new URL('../sides/load.mjs', import.meta.url));
const PAIRS = 9;

async function once(way, folder) {
  return JSON.parse((await run(process.execPath, [side, way, folder])).stdout);
}

export async function measure(peer) {
  const folder = await shapeModel(peer, 'mlx', 'q4');
  const { size } = statSync(path.join(folder, 'model.safetensors'));
  await once('read', folder);
  await once('load', folder);
  const pairs = [];
  for (let i = 0; i < PAIRS; i++) {
    const answers = {};
    for (const way of i % 2 === 0 ? ['load', 'read'] : ['read', 'load']) {
      answers[way] = await once(way, folder);
    }
    pairs.push(answers);
  }
  const memory = pairs.map(({ load }) => load.grownBytes / size);
  return {
    conditions: `${(size / 1e6).toFixed(0)} MB of 4-bit weights, fresh processes, warm page cache; memory is the peak of the resident set less what it was before`,
    rows: [
      compareWith(
        'plain reads',
        'q4: load',
        'ms',
        pairs.map(({ load, read }) => ({ mlxk: load.ms, peer: read.ms })),
      ),
      {
        name: 'q4: peak memory of loading, times the weights',
        unit: '',
        mlxk: median(memory),
        samples: memory,
      },
    ],
  };
}
