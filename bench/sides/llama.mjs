/**
 * The node-llama-cpp side: one GGUF file, one JSON line in, one out. `threads` of a request decides over the context,
 * which is kept for the requests that ask for the same.
 */

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [, , packageFolder, file] = process.argv;
const found = createRequire(`${packageFolder}/`).resolve('node-llama-cpp');
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(found).href);

const llama = await getLlama({
  gpu: false,
  build: 'never',
  logLevel: LlamaLogLevel.error,
  maxThreads: 0,
});
const model = await llama.loadModel({ modelPath: file });
let context, of;

async function sequenceFor(threads, contextSize) {
  if (of !== `${threads} ${contextSize}`) {
    await context?.dispose();
    context = await model.createContext({ contextSize, threads: { ideal: threads, min: threads } });
    of = `${threads} ${contextSize}`;
    return (sequenceFor.last = context.getSequence());
  }
  await sequenceFor.last.clearHistory();
  return sequenceFor.last;
}

async function generate({ prompt, maxTokens, threads, contextSize }) {
  const sequence = await sequenceFor(threads, contextSize);
  let count = 0;
  let first;
  let cpuAtFirst;
  const cpuBefore = process.cpuUsage();
  const started = performance.now();
  const tokens = sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true });
  while ((await tokens.next()).done !== true) {
    if (first === undefined) {
      first = performance.now();
      cpuAtFirst = process.cpuUsage();
    }
    if (++count >= maxTokens) break;
  }
  await tokens.return();
  const ended = performance.now();
  const seconds = ({ user, system }) => (user + system) / 1e6;
  return {
    firstTokenSeconds: (first - started) / 1e3,
    restSeconds: (ended - first) / 1e3,
    cpuSeconds: seconds(process.cpuUsage(cpuBefore)),
    restCpuSeconds: seconds(process.cpuUsage(cpuAtFirst)),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await generate(JSON.parse(line)))}\n`);
}
process.exit(0);
