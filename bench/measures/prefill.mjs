/**
 * Prompt tokens per second: a long prompt up to its first answer token, with nothing cached.
 */

import { field, pairsOf, promptIds, withSides } from '../harness.mjs';
import { builtin, toys } from '../models.mjs';
import { compare } from '../report.mjs';

const PROMPT = 400;
const PAIRS = 9;

export async function measure(peer) {
  const rows = [];
  for (const { name, folder } of [...toys(), ...builtin()]) {
    await withSides(peer, folder, async (sides) => {
      const request = { prompt: promptIds(folder, PROMPT), maxTokens: 1 };
      const pairs = await pairsOf(sides, request, PAIRS);
      const speed = field(pairs, ({ firstTokenSeconds }) => PROMPT / firstTokenSeconds);
      rows.push(compare(name, 'prompt tokens/s', 'higher', speed));
    });
  }
  return { conditions: `prompt of ${PROMPT} ids, time to the first id, batch 1`, rows };
}
