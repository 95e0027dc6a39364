/**
 * Decode speed of every family that runs, on its golden of the repository: tiny models on which a step is nearly all
 * host code. One row a family, and the median of their ratios.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { field, pairsOf, promptIds, SideEnded, withSides } from '../harness.mjs';
import { compare, median } from '../report.mjs';

const PROMPT = 8;
const TOKENS = 64;
const PAIRS = 5;

const goldens = fileURLToPath(new URL('../../test/goldens/', import.meta.url));

/** The first golden of each model_type, by name. */
function families() {
  const found = new Map();
  for (const name of readdirSync(goldens).sort()) {
    const folder = path.join(goldens, name);
    if (!existsSync(path.join(folder, 'config.json'))) continue;
    const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8'));
    const { model_type: type, quantization } = config;
    if (quantization === undefined && !found.has(type)) found.set(type, folder);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

export async function measure(peer) {
  const rows = [];
  const alone = []; // families that the peer cannot run here
  for (const [type, folder] of families()) {
    const measured = withSides(peer, folder, async (sides) => {
      const request = { prompt: promptIds(folder, PROMPT), maxTokens: TOKENS };
      // A toy's scores are close together: ids may part on a rounding, the work stays the same.
      const pairs = await pairsOf(sides, request, PAIRS, { mayPart: true });
      const speed = field(pairs, ({ restSeconds }) => (TOKENS - 1) / restSeconds);
      rows.push(compare(type, 'tokens/s', 'higher', speed));
      const { ratio } = rows.at(-1);
      console.log(`${type}: ${ratio.toPrecision(3)}`);
    });
    try {
      await measured;
    } catch (error) {
      if (!(error instanceof SideEnded) || error.side !== 'mlx-lm') throw error;
      alone.push(type);
      console.log(`${type}: mlx-lm cannot run it on this device`);
    }
  }
  const ratios = rows.map(({ ratio }) => ratio);
  const least = rows.reduce((a, b) => (a.ratio < b.ratio ? a : b));
  const summary = `median ${median(ratios).toPrecision(3)} times, least ${least.ratio.toPrecision(3)} (${least.name})`;
  const without = alone.length > 0 ? `; mlx-lm cannot run here: ${alone.join(', ')}` : '';
  return {
    conditions: `prompt of ${PROMPT} ids, ${TOKENS} greedy ids, batch 1, float32, ${rows.length} families: ${summary}${without}`,
    rows,
  };
}
