/**
 * Shows a download on stderr while it runs: a bar for a person on a terminal, JSON lines for a program that asked for
 * them, nothing otherwise.
 */

import { Presets, SingleBar } from 'cli-progress';

import type { PullEvent } from '../cache/pull-types.js';
import { decimalBytes } from '../format.js';
import type { Output } from './output.js';

/** Lines for one file come no closer together than this. */
const LINE_INTERVAL_MS = 100;

/** Widest text behind the bar: `100 % of 999.9GB | 999.9MB/s | 23h59m left`. */
const NUMBERS_COLUMNS = 46;

export interface ProgressView {
  show(event: PullEvent): void;
  /** Takes down what was drawn. */
  end(): void;
}

export function progressView(
  output: Output,
  { json, jsonLines }: { json: boolean; jsonLines: boolean },
): ProgressView {
  if (jsonLines) return new JsonLines();
  if (json || !output.showsProgress || process.env.HF_HUB_DISABLE_PROGRESS_BARS === '1')
    return QUIET;
  return new Bar(output);
}

const QUIET: ProgressView = { show: () => undefined, end: () => undefined };

class JsonLines implements ProgressView {
  readonly #shown = new Map<string, number>();

  show(event: PullEvent): void {
    if (event.type === 'progress') {
      const now = performance.now();
      const isLast = event.fileBytes === event.fileTotalBytes;
      if (!isLast && now - (this.#shown.get(event.file) ?? -Infinity) < LINE_INTERVAL_MS) return;
      this.#shown.set(event.file, now);
    }
    process.stderr.write(`${JSON.stringify(inSnakeCase(event))}\n`);
  }

  end(): void {
    this.#shown.clear();
  }
}

function inSnakeCase(event: PullEvent): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(event).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value as unknown,
    ]),
  );
}

/** What is left of a line of a terminal beside the numbers. */
function barSize(columns: number | undefined): number {
  return Math.min(40, Math.max(5, (columns ?? 80) - NUMBERS_COLUMNS));
}

class Bar implements ProgressView {
  readonly #output: Output;
  readonly #bar = new SingleBar(
    {
      stream: process.stderr,
      barsize: barSize(process.stderr.columns),
      format: '{bar} {percentage} % of {size} | {speed}/s | {eta_formatted} left',
      hideCursor: true,
      clearOnComplete: true,
      etaBuffer: 50,
      fps: 8,
    },
    Presets.shades_classic,
  );
  #startedMs = 0;
  #startBytes = 0;
  #running = false;

  constructor(output: Output) {
    this.#output = output;
  }

  show(event: PullEvent): void {
    if (event.type === 'plan') {
      this.#output.clearProgress();
      this.#startedMs = performance.now();
      this.#startBytes = event.presentBytes;
      if (event.presentBytes === event.totalBytes) return;
      const size = decimalBytes(event.totalBytes);
      this.#output.note(`${event.model}: ${event.files} files, ${size}`);
      this.#bar.start(event.totalBytes, event.presentBytes, { size, speed: '-' });
      this.#running = true;
    } else if (event.type === 'progress') {
      const seconds = (performance.now() - this.#startedMs) / 1000;
      const speed = Math.max(0, event.bytes - this.#startBytes) / Math.max(seconds, 0.001);
      this.#bar.update(event.bytes, { speed: decimalBytes(Math.round(speed)) });
    } else if (event.type === 'verifying') {
      this.#output.drawProgress(`verifying ${event.file} (${decimalBytes(event.bytes)})`);
    } else if (event.type === 'waiting') {
      this.#note(`waiting for another download of ${event.file}`);
    } else if (event.type === 'retry') {
      this.#note(`${event.message}: trying again in ${(event.delayMs / 1000).toFixed(1)} s`);
    } else if (event.type === 'warning') {
      this.#note(event.message);
    }
  }

  end(): void {
    this.#output.clearProgress();
    if (this.#running) this.#bar.stop();
    this.#running = false;
  }

  /** Above the bar, which draws itself anew. */
  #note(text: string): void {
    if (this.#running) process.stderr.write('\r\x1b[K');
    this.#output.note(text);
  }
}
