/**
 * From samples to what is printed and kept. One result file per machine; a measure that ran again replaces its own
 * entry and leaves the others.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

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

export function printMeasure(name, { conditions, rows }) {
  console.log(`\n${name}: ${conditions}`);
  console.table(
    rows.map((row) => ({
      what: row.name,
      unit: row.unit,
      mlxk: significant(row.mlxk),
      ...(row['mlx-lm'] !== undefined && {
        'mlx-lm': significant(row['mlx-lm']),
        'times better': significant(row.ratio),
        pairs: row.pairs.length,
      }),
    })),
  );
}

export function writeResults(machine, versions, name, result) {
  mkdirSync(results, { recursive: true });
  const file = new URL(`${machineName(machine)}.json`, results);
  const kept = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).measures : {};
  const measures = { ...kept, [name]: { day: new Date().toISOString().slice(0, 10), versions, ...result } };
  const sorted = Object.fromEntries(Object.entries(measures).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify({ machine, measures: sorted }, rounded, 1)}\n`);
}

function rounded(_key, value) {
  return typeof value === 'number' ? Number(value.toPrecision(5)) : value;
}

function significant(value) {
  return Number(value.toPrecision(4));
}
