/**
 * How fast a model is on this machine: prompts of random ids, answers that no stop id ends, in runs of their own.
 */

import { load } from '../load.js';
import type { Model, ModelInfo } from '../model.js';

export interface BenchSettings {
  /** Ids in the prompt. */
  readonly promptTokens: number;
  /** Ids in the answer. */
  readonly maxTokens: number;
  readonly runs: number;
  /** Called before the first run, which is not counted (0), and before each that is (1 …). */
  readonly onRun?: (run: number) => void;
}

export interface BenchRun {
  readonly promptTokensPerSecond: number;
  readonly tokensPerSecond: number;
  readonly firstTokenMs: number;
}

export interface BenchResult {
  readonly model: ModelInfo;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly runs: readonly BenchRun[];
  /** Of each figure over the runs. */
  readonly median: BenchRun;
  readonly loadMs: number;
  readonly peakMemoryBytes: number;
  /** When the first run that counts began and the last ended. */
  readonly startedAt: Date;
  readonly endedAt: Date;
}

/**
 * Loads a model, warms it up with one run and measures the others.
 *
 * @throws what `load` and `generate` throw.
 */
export async function bench(name: string, settings: BenchSettings): Promise<BenchResult> {
  const begun = performance.now();
  await using model = await load(name);
  const loadMs = performance.now() - begun;
  const { promptTokens, completionTokens } = sizes(model, settings);

  const once = async (run: number): Promise<{ figures: BenchRun; peakMemoryBytes: number }> => {
    settings.onRun?.(run);
    const tokens = randomIds(model.info.vocabSize, promptTokens, run);
    const options = { maxTokens: completionTokens, ignoreEos: true };
    const { timings } = await model.generate({ tokens }, options);
    const { promptTokensPerSecond, tokensPerSecond, firstTokenMs, peakMemoryBytes } = timings;
    return { figures: { promptTokensPerSecond, tokensPerSecond, firstTokenMs }, peakMemoryBytes };
  };

  await once(0);
  const startedAt = new Date();
  const runs: BenchRun[] = [];
  let peak = 0;
  for (let run = 1; run <= settings.runs; run++) {
    const { figures, peakMemoryBytes } = await once(run);
    runs.push(figures);
    peak = Math.max(peak, peakMemoryBytes);
  }
  return {
    model: model.info,
    promptTokens,
    completionTokens,
    runs,
    median: {
      promptTokensPerSecond: median(runs.map((run) => run.promptTokensPerSecond)),
      tokensPerSecond: median(runs.map((run) => run.tokensPerSecond)),
      firstTokenMs: median(runs.map((run) => run.firstTokenMs)),
    },
    loadMs,
    peakMemoryBytes: peak,
    startedAt,
    endedAt: new Date(),
  };
}

/** What was asked for, or where the context is shorter, all of it with half for the answer at most. */
function sizes(
  { info }: Model,
  { promptTokens, maxTokens }: BenchSettings,
): { promptTokens: number; completionTokens: number } {
  const completionTokens = Math.min(maxTokens, Math.max(1, Math.floor(info.contextLength / 2)));
  const room = Math.max(1, info.contextLength - completionTokens);
  return { promptTokens: Math.min(promptTokens, room), completionTokens };
}

/** The same ids for the same run; no two runs alike, so that none is served from what another left. */
function randomIds(vocabSize: number, count: number, run: number): number[] {
  let state = 2463534242 + run;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % vocabSize;
  });
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
