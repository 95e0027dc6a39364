/**
 * `node bench/builtin/accuracy.mjs [SET] [--wrong] [--thinking]`: how often the built-in model is right on the questions
 * of SET.json, `heldout` unless named. Prints a table by category; ends with 1 below the promised 90 %.
 * Knows the public API only. `heldout`, made by tools/tiny-model/heldout.py, holds wordings that training never saw;
 * `fresh` was written by somebody who saw neither the training text nor an answer.
 */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { load } from 'mlxk';

const PROMISED = 0.9;
const AT_ONCE = 16;

const {
  values: options,
  positionals: [set = 'heldout'],
} = parseArgs({
  allowPositionals: true,
  options: { wrong: { type: 'boolean' }, thinking: { type: 'boolean' } },
});
const questions = JSON.parse(readFileSync(new URL(`${set}.json`, import.meta.url), 'utf8'));
const templateArgs = options.thinking ? { enable_thinking: true } : {};

const model = await load('builtin');

async function judge({ category, source, question, accept, before = [] }) {
  const messages = [...before, { role: 'user', content: question }];
  const { text } = await model.generate(messages, { maxTokens: 96, temperature: 0, templateArgs });
  return { category, source, question, text, right: accept.some((mark) => text.includes(mark)) };
}

const judged = [];
for (let first = 0; first < questions.length; first += AT_ONCE) {
  judged.push(...(await Promise.all(questions.slice(first, first + AT_ONCE).map(judge))));
}

function line(name, of) {
  const right = of.filter((one) => one.right).length;
  const percent = ((100 * right) / of.length).toFixed(1);
  console.log(`${name.padEnd(20)}${String(right).padStart(5)} of${String(of.length).padStart(5)}${percent.padStart(7)} %`);
  return right / of.length;
}

for (const { category, question, text, right } of judged) {
  if (options.wrong && !right) console.log(`  ${category}: ${question} -> ${text}`);
}
for (const category of new Set(judged.map((one) => one.category))) {
  line(category, judged.filter((one) => one.category === category));
}
for (const source of new Set(judged.map((one) => one.source).filter(Boolean))) {
  line(`written by ${source}`, judged.filter((one) => one.source === source));
}
await model.dispose();
const share = line('all', judged);
if (share < PROMISED) {
  console.error(`bench: ${(100 * share).toFixed(1)} % is below the promised ${100 * PROMISED} %`);
  process.exitCode = 1;
}
