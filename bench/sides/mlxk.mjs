/**
 * The mlxk side of the long-lived pair: one model, one JSON line in, one out, through the public API.
 */

import { createInterface } from 'node:readline';

import { load } from '../../dist/index.js';

const model = await load(process.argv[2]);

async function generate({ prompt, maxTokens }) {
  const tokens = [];
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  let first;
  let cpuAtFirst;
  for await (const piece of model.generate({ tokens: prompt }, { maxTokens, logprobs: true })) {
    if (first === undefined) {
      first = performance.now();
      cpuAtFirst = process.cpuUsage();
    }
    tokens.push(...piece.tokens);
  }
  const ended = performance.now();
  const { user, system } = process.cpuUsage(cpuBefore);
  const rest = process.cpuUsage(cpuAtFirst);
  return {
    tokens,
    firstTokenSeconds: (first - started) / 1e3,
    restSeconds: (ended - first) / 1e3,
    cpuSeconds: (user + system) / 1e6,
    restCpuSeconds: (rest.user + rest.system) / 1e6,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await generate(JSON.parse(line)))}\n`);
}
await model.dispose();
