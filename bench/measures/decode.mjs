/**
 * Tokens per second after the first one, a single greedy generation, and the processor time each token takes.
 * Processor time counts all threads and hardly feels what else the machine does.
 */

import { field, pairsOf, promptIds, withSides } from '../harness.mjs';
import { builtin, toys } from '../models.mjs';
import { compare } from '../report.mjs';

const PROMPT = 16;
const TOKENS = 256;
const PAIRS = 9;

export async function measure(peer) {
  const rows = [];
  for (const { name, folder } of [...toys(), ...builtin()]) {
    await withSides(peer, folder, async (sides) => {
      const request = { prompt: promptIds(folder, PROMPT), maxTokens: TOKENS };
      const pairs = await pairsOf(sides, request, PAIRS);
      const speed = field(pairs, ({ restSeconds }) => (TOKENS - 1) / restSeconds);
      const processor = field(pairs, ({ cpuSeconds }) => (cpuSeconds * 1e3) / TOKENS);
      rows.push(compare(`${name}: decode`, 'tokens/s', 'higher', speed));
      rows.push(compare(`${name}: processor time`, 'ms/token', 'lower', processor));
    });
  }
  return { conditions: `prompt of ${PROMPT} ids, ${TOKENS} greedy ids, batch 1`, rows };
}
