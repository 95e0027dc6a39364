/**
 * One line on stderr that tells how far a long piece of work is, when a person watches and it takes long enough.
 */

import { visibleLine } from '../visible.js';
import type { Output } from './output.js';

/** Below this a line would only flicker. */
const QUIET_MS = 500;

export interface ProgressLine {
  readonly update: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly end: () => void;
}

export function progressLine(output: Output, what: string): ProgressLine {
  const startedMs = performance.now();
  return {
    update: ({ doneBytes, totalBytes }) => {
      if (!output.showsProgress || performance.now() - startedMs < QUIET_MS) return;
      const percent = totalBytes > 0 ? Math.floor((100 * doneBytes) / totalBytes) : 100;
      const size = `${(totalBytes / 1e6).toFixed(0)} MB`;
      output.drawProgress(`${visibleLine(what)}: ${percent} % of ${size}`);
    },
    end: () => {
      output.clearProgress();
    },
  };
}
