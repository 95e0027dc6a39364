/**
 * Two long-lived processes that answer the same requests, and the alternation between them. Both are warmed up
 * first, and each pair is measured back to back, so that a machine that slows down slows both.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { withoutStops } from './models.mjs';

/** A side that ended instead of answering. */
export class SideEnded extends Error {
  constructor(side, request) {
    super(`the ${side} side ended on ${JSON.stringify(request).slice(0, 200)}`);
    this.side = side;
  }
}

/** A process that answers one JSON line with one JSON line. */
export class Side {
  #child;
  #answers;
  #name;

  constructor(name, command, args) {
    this.#name = name;
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.on('error', () => {}); // The end of its output, seen in `ask`, says the same.
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async ask(request) {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new SideEnded(this.#name, request);
    return JSON.parse(value);
  }

  async close() {
    this.#child.stdin.end();
    if (this.#child.exitCode === null && this.#child.signalCode === null)
      await once(this.#child, 'close');
  }
}

/** Runs `task` with both sides on one model. */
export async function withSides({ python }, folder, task) {
  const script = (file) => fileURLToPath(new URL(`./sides/${file}`, import.meta.url));
  return await withoutStops(folder, async (bare) => {
    const sides = {
      mlxk: new Side('mlxk', process.execPath, [script('mlxk.mjs'), bare]),
      mlxLm: new Side('mlx-lm', python, [script('mlx_lm_side.py'), bare]),
    };
    try {
      return await task(sides);
    } finally {
      await Promise.all([sides.mlxk.close(), sides.mlxLm.close()]);
    }
  });
}

/**
 * Answers of both sides to one request, `count` times, in turns; who begins alternates too.
 *
 * @param mayPart whether the greedy ids of the two sides may differ
 * @throws when the sides do not answer with the same greedy ids: they would not have done the same work.
 */
export async function pairsOf(sides, request, count, { mayPart = false } = {}) {
  const warm = { mlxk: await sides.mlxk.ask(request), mlxLm: await sides.mlxLm.ask(request) };
  if (!mayPart && JSON.stringify(warm.mlxk.tokens) !== JSON.stringify(warm.mlxLm.tokens)) {
    throw new Error('the two sides gave different greedy ids for one prompt');
  }
  const pairs = [];
  for (let i = 0; i < count; i++) {
    const pair = {};
    for (const side of i % 2 === 0 ? ['mlxk', 'mlxLm'] : ['mlxLm', 'mlxk']) {
      pair[side] = await sides[side].ask(request);
    }
    pairs.push(pair);
  }
  return pairs;
}

/** The same field of both answers of each pair. */
export function field(pairs, of) {
  return pairs.map(({ mlxk, mlxLm }) => ({ mlxk: of(mlxk), mlxLm: of(mlxLm) }));
}

/** `count` ids of the folder's vocabulary, the same at every call. */
export function promptIds(folder, count) {
  const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'));
  const vocabulary = config.vocab_size ?? config.text_config?.vocab_size;
  if (!Number.isInteger(vocabulary)) throw new Error(`${folder} states no vocab_size`);
  let state = 12345;
  return Array.from({ length: count }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return 3 + (Math.floor(state / 2 ** 8) % (vocabulary - 3));
  });
}
