/**
 * Watches the event loop for some seconds while it does nothing, or while it reads one generation after another.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';

import { load } from '../../dist/index.js';

const { what, folder, seconds, prompt } = JSON.parse(process.argv[2]);
const model = await load(folder);
const maxTokens = Math.min(400, model.info.contextLength - prompt.length);
await model.generate({ tokens: prompt }, { maxTokens: 8 }); // Code that runs once is not what is measured.

const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
if (what === 'idle') {
  await wait(seconds * 1e3);
} else {
  const end = performance.now() + seconds * 1e3;
  while (performance.now() < end) {
    for await (const piece of model.generate({ tokens: prompt }, { maxTokens })) void piece;
  }
}
delay.disable();
const ms = (nanoseconds) => nanoseconds / 1e6;
await model.dispose();
console.log(
  JSON.stringify({
    p50: ms(delay.percentile(50)),
    p99: ms(delay.percentile(99)),
    max: ms(delay.max),
  }),
);
