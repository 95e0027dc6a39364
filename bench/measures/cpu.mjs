/**
 * What CPU kernels are for: a model of Qwen3-0.6B's shape beside llama.cpp (node-llama-cpp, its best number of threads)
 * and mlx-lm (on the same libmlx), with what the machine can read and compute at most measured between them.
 */

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { addon } from '../../dist/binding.js';
import { Side } from '../harness.mjs';
import { compareWith, median } from '../report.mjs';
import { models, shapeModel } from '../shapes.mjs';

const run = promisify(execFile);
const bench = fileURLToPath(new URL('..', import.meta.url));
const peerFolder = path.join(bench, '.venv', 'llama');
const PEER = 'node-llama-cpp@3.22.1';
const VOCABULARY = 151_936;

/**
 * Bytes of weights that a token reads: 596 million numbers, in MLX's formats; of gpt_oss, four of sixteen experts, the
 * rest of the layers and the head.
 */
const BYTES_PER_TOKEN = { q4: 335.4e6, q8: 633.5e6, bf16: 1192e6, gpt_oss: 279e6 };

/** What is asked of both sides: ids of the prompt, ids of the answer, and how often. */
const ROUNDS = [
  { name: '128 ids', prompt: 128, maxTokens: 32, rounds: 5 },
  { name: '512 ids', prompt: 512, maxTokens: 16, rounds: 3 },
  { name: '4,096 ids', prompt: 4096, maxTokens: 16, rounds: 2, decodeOnly: true },
].filter(({ prompt }) => {
  // MLXK_BENCH_PROMPTS=128,512 and MLXK_BENCH_FORMATS=q4 shorten the measure, which a busy machine makes long.
  const wanted = process.env.MLXK_BENCH_PROMPTS;
  return !wanted || wanted.split(',').includes(String(prompt));
});
/** What finds the peer's best number of threads. */
const TRIAL = { prompt: 64, maxTokens: 8 };

let seed = 1;

/** Ids that no earlier prompt began with, so that nothing is cached. */
function freshPrompt(count) {
  return Array.from({ length: count }, () => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return 3 + (Math.floor(seed / 2 ** 8) % (VOCABULARY - 3));
  });
}

async function installLlama() {
  if (existsSync(path.join(peerFolder, 'node_modules', 'node-llama-cpp'))) return;
  console.log(`Installing ${PEER} into bench/.venv/llama`);
  mkdirSync(peerFolder, { recursive: true });
  await run('npm', ['install', '--prefix', peerFolder, '--no-save', '--ignore-scripts', PEER]);
}

/** Compiled anew each time: a second, and always for this processor. */
async function machineRate() {
  const program = path.join(models, 'machine_rate');
  const source = path.join(bench, 'sides', 'machine_rate.cpp');
  await run('c++', ['-std=c++20', '-O3', '-march=native', '-pthread', source, '-o', program]);
  return async () => JSON.parse((await run(program, [String(os.availableParallelism())])).stdout);
}

/** 1, 2, 4, … up to the processors there are. */
function threadCounts() {
  const most = os.availableParallelism();
  const counts = [];
  for (let count = 1; count < most; count *= 2) counts.push(count);
  return [...counts, most];
}

const prefillSpeed = (prompt, { firstTokenSeconds }) => prompt / firstTokenSeconds;
const decodeSpeed = (tokens, { restSeconds }) => (tokens - 1) / restSeconds;

const VALUES = {
  prefill: (answer, prompt) => prefillSpeed(prompt, answer),
  decode: (answer, _, tokens) => decodeSpeed(tokens, answer),
  'prefill processor time': ({ cpuSeconds, restCpuSeconds }, prompt) =>
    ((cpuSeconds - restCpuSeconds) * 1e3) / prompt,
  'decode processor time': ({ restCpuSeconds }, _, tokens) => (restCpuSeconds * 1e3) / (tokens - 1),
};

async function againstLlama(peer, format, rate, limits, rounds) {
  const mlxk = new Side('mlxk', process.execPath, [
    path.join(bench, 'sides', 'mlxk.mjs'),
    await shapeModel(peer, 'mlx', format),
  ]);
  const llama = new Side('llama', process.execPath, [
    path.join(bench, 'sides', 'llama.mjs'),
    peerFolder,
    await shapeModel(peer, 'gguf', format),
  ]);
  const ask = (side, threads, ids, maxTokens) =>
    side.ask(
      side === mlxk
        ? { prompt: ids, maxTokens }
        : { prompt: ids, maxTokens, threads, contextSize: ids.length + maxTokens + 16 },
    );
  const rows = [];
  try {
    await ask(mlxk, 0, freshPrompt(TRIAL.prompt), TRIAL.maxTokens);
    const best = { prefill: [0, 1], decode: [0, 1] };
    for (const threads of threadCounts()) {
      const answer = await ask(llama, threads, freshPrompt(TRIAL.prompt), TRIAL.maxTokens);
      const prefill = prefillSpeed(TRIAL.prompt, answer);
      const decode = decodeSpeed(TRIAL.maxTokens, answer);
      if (prefill > best.prefill[0]) best.prefill = [prefill, threads];
      if (decode > best.decode[0]) best.decode = [decode, threads];
    }
    for (const { name, prompt, maxTokens, rounds: count, decodeOnly } of rounds) {
      const samples = Object.fromEntries(Object.keys(VALUES).map((what) => [what, []]));
      for (let i = 0; i < count; i++) {
        limits.push(await rate());
        const wanted = [
          ...new Set(decodeOnly ? [best.decode[1]] : [best.prefill[1], best.decode[1]]),
        ];
        const answers = {};
        const order = i % 2 === 0 ? [0, ...wanted] : [...wanted, 0];
        for (const threads of order) {
          answers[threads] = await ask(
            threads === 0 ? mlxk : llama,
            threads,
            freshPrompt(prompt),
            maxTokens,
          );
        }
        for (const [what, of] of Object.entries(VALUES)) {
          const value = (threads) => of(answers[threads], prompt, maxTokens);
          const theirs = best[what.split(' ')[0]][1];
          if (answers[theirs]) samples[what].push({ mlxk: value(0), peer: value(theirs) });
        }
      }
      for (const [what, taken] of Object.entries(samples)) {
        if (taken.length === 0) continue;
        const threads = best[what.split(' ')[0]][1];
        const peerName = `llama.cpp, ${threads} thread${threads > 1 ? 's' : ''}`;
        const unit = what.includes('processor') ? 'ms/token' : 'tokens/s';
        rows.push(compareWith(peerName, `${format}: ${what}, ${name}`, unit, taken));
        console.log(rows.at(-1).name, rows.at(-1).ratio);
      }
    }
  } finally {
    await Promise.all([mlxk.close(), llama.close()]);
  }
  return rows;
}

/** mlx-lm takes ten seconds for a token: one short answer each. */
async function againstMlxLm(peer, format) {
  const folder = await shapeModel(peer, 'mlx', format);
  const script = (file) => path.join(bench, 'sides', file);
  const sides = {
    mlxk: new Side('mlxk', process.execPath, [script('mlxk.mjs'), folder]),
    mlxLm: new Side('mlx-lm', peer.python, [script('mlx_lm_side.py'), folder]),
  };
  const request = () => ({ prompt: freshPrompt(4), maxTokens: 3 });
  try {
    await sides.mlxk.ask(request());
    const mlxk = decodeSpeed(3, await sides.mlxk.ask(request()));
    const theirs = decodeSpeed(3, await sides.mlxLm.ask(request()));
    return compareWith('mlx-lm', `${format}: decode`, 'tokens/s', [{ mlxk, peer: theirs }]);
  } finally {
    await Promise.all([sides.mlxk.close(), sides.mlxLm.close()]);
  }
}

export async function measure(peer) {
  await installLlama();
  mkdirSync(models, { recursive: true });
  const rate = await machineRate();
  const { isa, threads } = addon().cpu();
  const limits = [];
  const rows = [];
  const share = (row, format) => {
    const bound = (median(limits.map((limit) => limit.readGBps)) * 1e9) / BYTES_PER_TOKEN[format];
    return { name: `${row.name}, part of what memory allows`, unit: '', mlxk: row.mlxk / bound };
  };
  const formats = (process.env.MLXK_BENCH_FORMATS || 'q4,q8,bf16,gpt_oss').split(',');
  for (const format of formats) {
    const found = await againstLlama(
      peer,
      format,
      rate,
      limits,
      format === 'q4' ? ROUNDS : ROUNDS.slice(0, 1),
    );
    rows.push(
      ...found,
      share(
        found.find((row) => row.name.includes('decode')),
        format,
      ),
    );
  }
  rows.push(await againstMlxLm(peer, 'q4'));
  const of = (key) => limits.map((limit) => limit[key]);
  rows.push(
    {
      name: 'read bandwidth, all cores',
      unit: 'GB/s',
      mlxk: median(of('readGBps')),
      samples: of('readGBps'),
    },
    {
      name: 'float32, all cores',
      unit: 'GFLOP/s',
      mlxk: median(of('fp32GFlops')),
      samples: of('fp32GFlops'),
    },
  );
  return {
    conditions:
      `Qwen3-0.6B's shape and a small gpt-oss, random weights, batch 1; mlxk on ${isa} with ${threads} threads, llama.cpp of ${PEER} ` +
      `with the number of threads that was fastest in a warm-up; load average ${os
        .loadavg()
        .map((load) => load.toFixed(1))
        .join(', ')} at the end`,
    rows,
  };
}
