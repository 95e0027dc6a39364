import { Worker } from 'node:worker_threads';

import { afterAll, describe, expect, it } from 'vitest';

import { load } from '../../lib/index.js';
import { builtPackage, runScript } from '../helpers/child.js';
import { smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const folder = smallModelFolder();
afterAll(removeTemporaryFolders);

const FOLDER = JSON.stringify(folder);
const LONG_PROMPT = '{ tokens: Array.from({ length: 4000 }, (_, i) => i % 320) }';
const QUESTION = [5, 6, 7];
const LENGTH = 24;

async function answerHere(): Promise<readonly number[]> {
  await using model = await load(folder);
  return (await model.generate({ tokens: QUESTION }, { maxTokens: LENGTH })).tokens;
}

/** Code that brings a process to a stage and calls `leave()` there. */
const STAGES: Record<string, string> = {
  'the load': `load(${FOLDER}); leave();`,
  'the reading of weights': `load(${FOLDER}, { onProgress: () => leave() });`,
  'a processed prompt': `const model = await load(${FOLDER}); model.generate(${LONG_PROMPT}, { onPrefill: () => leave() });`,
  'an answer': `const model = await load(${FOLDER}); for await (const piece of model.generate({ tokens: [1] })) leave();`,
  'several answers': `const model = await load(${FOLDER});
    for (let i = 0; i < 4; i++) model.generate({ tokens: [i] }).catch(() => {});
    for await (const piece of model.generate({ tokens: [9] })) leave();`,
  'a computation of scores': `const model = await load(${FOLDER}); model.logits([1, 2]); leave();`,
  'a disposal': `const model = await load(${FOLDER}); const answer = model.generate({ tokens: [1] });
    for await (const piece of answer) break; model.dispose(); leave();`,
  'the end of all work': `const model = await load(${FOLDER}); await model.generate({ tokens: [1] }, { maxTokens: 3 }); leave();`,
};

describe.each(Object.keys(STAGES))('during %s', (stage) => {
  it('process.exit gives its own code and no signal', async () => {
    const ended = await runScript(`const leave = () => process.exit(7);\n${STAGES[stage]}`);
    expect(ended).toMatchObject({ code: 7, signal: null, stderr: '' });
  });

  it('an uncaught error ends the process as it always does', async () => {
    const script = `const leave = () => { setImmediate(() => { throw new Error('mine'); }); };\n${STAGES[stage]}`;
    const ended = await runScript(script);
    expect(ended).toMatchObject({ code: 1, signal: null });
    expect(ended.stderr).toContain('Error: mine');
  });

  it('the end of a worker leaves the process well', async () => {
    const source = `
      import(${JSON.stringify(builtPackage)}).then(async ({ load }) => {
        const leave = () => require('node:worker_threads').parentPort.postMessage('here');
        ${STAGES[stage]}
      });`;
    const worker = new Worker(source, { eval: true });
    await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await worker.terminate();

    expect(await answerHere()).toHaveLength(LENGTH);
  });
});

describe('a process', () => {
  it('ends by itself while a model is loaded', async () => {
    expect(await runScript(`await load(${FOLDER});`)).toMatchObject({
      code: 0,
      signal: null,
      stderr: '',
    });
  });

  it('stays until an answer that it awaits is there', async () => {
    const script = `const model = await load(${FOLDER});
      model.generate({ tokens: [1] }, { maxTokens: 20 }).then(({ tokens }) => console.log(tokens.length));`;
    expect(await runScript(script)).toMatchObject({ code: 0, stdout: '20\n' });
  });

  it('does not stay for a model that was loaded by name', async () => {
    const script = `const { tokens } = await generate(${FOLDER}, { tokens: [1] }, { maxTokens: 2 });
      console.log(tokens.length);`;
    expect(await runScript(script)).toMatchObject({ code: 0, stdout: '2\n', stderr: '' });
  });

  it('learns of a failure nobody listens to', async () => {
    const ended = await runScript(
      `const model = await load(${FOLDER}); model.generate({ tokens: [] });`,
    );
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain('the prompt');
  });
});

describe('workers that are ended at any moment', () => {
  it.each([
    ['of a generation', 'await model.generate({ tokens: [1, 2, 3] }, { maxTokens: 2 });'],
    ['of a load', `await (await load(${FOLDER})).dispose();`],
    ['of a computation of scores', 'await model.logits([1, 2, 3]);'],
  ])('%s leave the process well', async (_, body) => {
    const source = `import(${JSON.stringify(builtPackage)}).then(async ({ load }) => {
      const { parentPort } = await import('node:worker_threads');
      const model = await load(${FOLDER});
      for (;;) {
        parentPort.postMessage('here');
        ${body}
      }
    });`;
    const ended = await runScript(`
      import { Worker } from 'node:worker_threads';
      for (let messages = 1; messages <= 20; messages++) {
        const worker = new Worker(${JSON.stringify(source)}, { eval: true });
        let left = messages;
        await new Promise((resolve, reject) => {
          worker.on('message', () => --left || resolve());
          worker.once('error', reject);
        });
        await worker.terminate();
      }
      console.log('well');`);
    expect(ended).toEqual({ code: 0, signal: null, stdout: 'well\n', stderr: '' });
  });
});

describe('two workers', () => {
  it('do not disturb each other when one ends', async () => {
    const source = (body: string): string => `
      import(${JSON.stringify(builtPackage)}).then(async ({ load }) => {
        const { parentPort } = require('node:worker_threads');
        const model = await load(${FOLDER});
        ${body}
      });`;
    const dying = new Worker(
      source(
        `for await (const piece of model.generate({ tokens: [1] })) parentPort.postMessage('runs');`,
      ),
      { eval: true },
    );
    await new Promise((resolve) => dying.once('message', resolve));
    const living = new Worker(
      source(`for (let i = 0; i < 5; i++) {
        const { tokens } = await model.generate({ tokens: ${JSON.stringify(QUESTION)} }, { maxTokens: ${LENGTH} });
        parentPort.postMessage(tokens);
      }
      await model.dispose();`),
      { eval: true },
    );
    const answers: number[][] = [];
    living.on('message', (tokens: number[]) => answers.push(tokens));
    const exited = new Promise((resolve) => living.once('exit', resolve));
    await dying.terminate();
    expect(await exited).toBe(0);
    const expected = await answerHere();
    expect(answers).toEqual(Array.from({ length: 5 }, () => expected));
  });
});
