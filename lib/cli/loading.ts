/**
 * Loads a model for a command: draws progress on stderr when it takes long and a person watches.
 */

import { load, type LoadOptions, type Model } from '../index.js';
import type { Output } from './output.js';

/** Below this a progress line would only flicker. */
const QUIET_MS = 500;

export async function loadWithProgress(
  name: string,
  output: Output,
  signal: AbortSignal,
  options: LoadOptions = {},
): Promise<Model> {
  const startedMs = performance.now();
  try {
    return await load(name, {
      ...options,
      signal,
      onProgress: ({ loadedBytes, totalBytes }) => {
        if (!output.showsProgress || performance.now() - startedMs < QUIET_MS) return;
        const percent = totalBytes > 0 ? Math.floor((100 * loadedBytes) / totalBytes) : 100;
        output.drawProgress(`Loading ${name}: ${percent} % of ${(totalBytes / 1e6).toFixed(0)} MB`);
      },
    });
  } finally {
    output.clearProgress();
  }
}
