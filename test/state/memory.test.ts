/**
 * What a process keeps after models were loaded, asked in every way and disposed, over and over: nothing that grows.
 * In a process of its own, so that no other test's memory counts.
 */

import path from 'node:path';

import { expect, it } from 'vitest';

import { builtPackage, runScript } from '../helpers/child.js';
import { ownGoldens } from '../models/golden-cases.js';

interface Kept {
  readonly residentBytes: number;
  readonly heapBytes: number;
  /** Open files and threads; absent where the system has no /proc. */
  readonly files?: number;
  readonly threads?: number;
  readonly handles: number;
}

/** `round(seed)`: a few loads and answers that end in every way; `kept()`: what is left when all is disposed. */
const PRELUDE = `
  import { existsSync, readdirSync, readFileSync } from 'node:fs';
  import v8 from 'node:v8';
  import vm from 'node:vm';
  v8.setFlagsFromString('--expose-gc');
  const gc = vm.runInNewContext('gc');
  const folders = ${JSON.stringify(
    ['llama', 'qwen3_moe', 'qwen3_next', 'llama-lora'].map((name) => path.join(ownGoldens, name)),
  )};
  const adapter = ${JSON.stringify(path.join(ownGoldens, 'llama-lora', 'adapters'))};
  const ignore = () => undefined;

  async function ask(model, seed, i) {
    const tokens = Array.from({ length: 1 + (seed * 7 + i * 13) % 40 }, (_, k) => 3 + (k % (i + 2)));
    const options = { maxTokens: 40, seed, temperature: i % 2, promptCache: i % 3 !== 0 };
    const answer = model.generate({ tokens }, options);
    if (i % 4 === 0) return await answer;
    if (i % 4 === 1) setTimeout(() => answer.abort(), (seed + i) % 5);
    if (i % 4 === 2) answer.abort();
    for await (const piece of answer) if (i % 4 === 3 && piece.tokens[0] % 3 === 0) break;
  }

  async function round(seed) {
    for (const folder of folders) {
      const models = [await load(folder), await load('builtin', { kvBits: 8, quantizedKvStart: 8 })];
      await Promise.all(models.flatMap((model) => [...Array(8).keys()].map((i) => ask(model, seed, i))));
      if (folder.endsWith('lora')) await models[0].generate({ tokens: [3] }, { adapter, maxTokens: 3 });
      models[1].generate('Hello', { ignoreEos: true }).catch(ignore);
      await Promise.all(models.map((model) => model.dispose()));
    }
    const aborting = new AbortController();
    const loading = load('builtin', { signal: aborting.signal, onProgress: () => aborting.abort() });
    await loading.then((model) => model.dispose(), ignore);
    await load(folders[0], { memoryLimit: 1000 }).catch(ignore);
    await load(folders[0] + '-none').catch(ignore);
  }

  async function kept() {
    await new Promise((resolve) => setImmediate(resolve));
    gc();
    const { rss, heapUsed } = process.memoryUsage();
    const hasProc = existsSync('/proc/self/fd');
    return {
      residentBytes: rss,
      heapBytes: heapUsed,
      ...(hasProc && {
        files: readdirSync('/proc/self/fd').length,
        threads: Number(/Threads:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]),
      }),
      handles: process._getActiveHandles().length,
    };
  }
`;

it('nothing grows from one round to the next', async () => {
  const ended = await runScript(
    `${PRELUDE}
    const before = await kept();
    for (let seed = 0; seed < 5; seed++) await round(seed);
    const first = await kept();
    for (let seed = 5; seed < 25; seed++) await round(seed);
    console.log(JSON.stringify({ before, first, last: await kept() }));`,
  );
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  const { before, first, last } = JSON.parse(ended.stdout) as Record<string, Kept>;
  expect(last).toMatchObject({
    files: first!.files,
    threads: first!.threads,
    handles: before!.handles,
  });
  // Twenty rounds that kept one model, cache or answer each would be far above.
  expect(last!.residentBytes - first!.residentBytes).toBeLessThan(12 * 2 ** 20);
  expect(last!.heapBytes - first!.heapBytes).toBeLessThan(2 ** 20);
});

it('memory comes back when a model is disposed', async () => {
  const ended = await runScript(`
    const resident = () => process.memoryUsage().rss;
    const many = async (requests) => {
      const model = await load('builtin');
      const prompts = Array.from({ length: requests }, (_, i) =>
        Array.from({ length: 20 + ((i * 37) % 400) }, (_, k) => 100 + ((k * (i + 1)) % 900)));
      await Promise.all(prompts.map((tokens, i) => model.generate({ tokens }, { maxTokens: 5 + i })));
      const busy = resident();
      await model.dispose();
      return busy;
    };
    await many(1);
    const before = resident();
    const busy = await many(48);
    console.log(JSON.stringify({ before, busy, after: resident() }));`);
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  const { before, busy, after } = JSON.parse(ended.stdout) as Record<string, number>;
  // What runs at once takes hundreds of megabytes here, of a model of three.
  expect(busy! - before!).toBeGreaterThan(100 * 2 ** 20);
  expect(after! - before!).toBeLessThan(0.5 * (busy! - before!));
});

it('workers that come and go leave no thread behind', async () => {
  const ended = await runScript(`
    import { readdirSync, existsSync } from 'node:fs';
    import { Worker } from 'node:worker_threads';
    const threads = () => existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0;
    const source = \`import(${JSON.stringify(builtPackage)}).then(async ({ load }) => {
      const { workerData } = await import('node:worker_threads');
      const model = await load('builtin');
      const answer = model.generate('Hello', { ignoreEos: true });
      for await (const piece of answer) break;
      if (workerData % 2 === 0) process.exit();
      await model.dispose();
    })\`;
    const one = (workerData) => new Promise((resolve, reject) =>
      new Worker(source, { eval: true, workerData }).once('error', reject).once('exit', resolve));
    await one(0);
    const before = threads();
    for (let i = 1; i <= 8; i++) await one(i);
    console.log(JSON.stringify({ before, after: threads() }));`);
  expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  const { before, after } = JSON.parse(ended.stdout) as Record<string, number>;
  expect(after).toBeLessThanOrEqual(before!);
});
