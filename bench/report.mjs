/**
 * From samples to what is printed and kept. One result file per machine; a measure that ran again replaces its own
 * entry and leaves the others.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';

import { machineName } from './machine.mjs';

const results = new URL('./results/', import.meta.url);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * One line of a measure: paired samples of both sides, their medians, and how many times better mlxk is.
 *
 * @param better which direction is good; decides how the ratio is formed, never its sign.
 */
export function compare(name, unit, better, pairs) {
  const mlxk = median(pairs.map((pair) => pair.mlxk));
  const mlxLm = median(pairs.map((pair) => pair.mlxLm));
  const ratio = better === 'higher' ? mlxk / mlxLm : mlxLm / mlxk;
  return { name, unit, better, mlxk, 'mlx-lm': mlxLm, ratio, pairs };
}

/** The same beside another peer, whose samples of each round are `pair.peer`; the best of both sides is told too. */
export function compareWith(peer, name, unit, pairs) {
  const mlxk = median(pairs.map((pair) => pair.mlxk));
  const theirs = median(pairs.map((pair) => pair.peer));
  const better = unit.startsWith('ms') ? 'lower' : 'higher';
  const best = (side) =>
    Math[better === 'higher' ? 'max' : 'min'](...pairs.map((pair) => pair[side]));
  return {
    name,
    unit,
    better,
    peer,
    mlxk,
    [peer]: theirs,
    ratio: better === 'higher' ? mlxk / theirs : theirs / mlxk,
    best: { mlxk: best('mlxk'), [peer]: best('peer') },
    pairs,
  };
}

/** @param {{ peer?: string }} row */
function peerOf({ peer }) {
  return peer ?? 'mlx-lm';
}

export function printMeasure(name, { conditions, rows }) {
  console.log(`\n${name}: ${conditions}`);
  console.table(
    rows.map((row) => ({
      what: row.name,
      unit: row.unit,
      mlxk: significant(row.mlxk),
      ...(row.ratio !== undefined && {
        peer: peerOf(row),
        'of the peer': significant(row[peerOf(row)]),
        'times better': significant(row.ratio),
        pairs: row.pairs.length,
      }),
    })),
  );
}

/** Writes `results/<machine>.json` with every sample, and a table of the medians beside it. */
export function writeResults(machine, versions, name, result) {
  mkdirSync(results, { recursive: true });
  const file = new URL(`${machineName(machine)}.json`, results);
  const kept = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).measures : {};
  const load = os.loadavg()[0];
  const measures = {
    ...kept,
    [name]: { day: new Date().toISOString().slice(0, 10), load, versions, ...result },
  };
  const sorted = Object.fromEntries(Object.entries(measures).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify({ machine, measures: sorted }, rounded, 1)}\n`);
  writeFileSync(new URL(`${machineName(machine)}.md`, results), asMarkdown(machine, sorted));
}

function asMarkdown({ cpu, cores, memoryGiB, system }, measures) {
  const lines = [`# ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${system}`, ''];
  lines.push(
    'Written by `npm run bench`. Medians; "times better" is above 1 where mlxk is better. The peer is mlx-lm where none is named.',
  );
  for (const [name, { conditions, day, load, versions, rows }] of Object.entries(measures)) {
    const on = Object.entries(versions)
      .map(([part, version]) => `${part} ${version}`)
      .join(', ');
    lines.push(
      '',
      `## ${name}`,
      '',
      `${conditions}. ${day}, load average ${significant(load)}; ${on}.`,
      '',
    );
    lines.push(
      '| what | unit | mlxk | peer | times better |',
      '| --- | --- | ---: | ---: | ---: |',
    );
    for (const row of rows) {
      const numbers = [row.mlxk, row[peerOf(row)], row.ratio].map((n) =>
        n === undefined ? '' : significant(n),
      );
      const name = row.peer ? `${row.name}; ${row.peer}` : row.name;
      lines.push(`| ${[name, row.unit, ...numbers].join(' | ')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function rounded(_key, value) {
  return typeof value === 'number' ? Number(value.toPrecision(5)) : value;
}

function significant(value) {
  return Number(value.toPrecision(4));
}
