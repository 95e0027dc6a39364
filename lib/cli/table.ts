/**
 * Tables for people: left-justified cells joined by ` | `, a rule under the header, no colour. Pure.
 */

import { visibleLine } from '../visible.js';

export interface Column {
  readonly title: string;
  /** Widest line of a cell; a longer text continues in rows below, broken between words where it can be. */
  readonly maxWidth?: number;
}

/** The table as text; an empty one is its header and rule. Cells may come from strangers. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): string {
  const lines = rows.flatMap((row) => linesOf(columns, row));
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...lines.map((line) => (line[index] ?? '').length)),
  );
  const join = (cells: readonly string[]): string =>
    cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(' | ');
  const rule = widths.map((width) => '-'.repeat(width)).join('-+-');
  const header = join(columns.map(({ title }) => title));
  return `${[header, rule, ...lines.map(join)].join('\n')}\n`;
}

/** One row as lines of the table: cells that wrap have several, the others are empty there. */
function linesOf(columns: readonly Column[], row: readonly string[]): string[][] {
  const cells = columns.map(({ maxWidth }, index) =>
    wrap(visibleLine(row[index] ?? ''), maxWidth ?? Infinity),
  );
  const height = Math.max(...cells.map((lines) => lines.length));
  return Array.from({ length: height }, (_, line) => cells.map((lines) => lines[line] ?? ''));
}

function wrap(text: string, width: number): string[] {
  if (text.length <= width) return [text];
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const joined = line === '' ? word : `${line} ${word}`;
    if (joined.length <= width) {
      line = joined;
      continue;
    }
    if (line !== '') lines.push(line);
    line = word;
    for (; line.length > width; line = line.slice(width)) lines.push(line.slice(0, width));
  }
  return line === '' ? lines : [...lines, line];
}
