/**
 * A measurement as a line of a test report, version 0.2.2 of the report contract (schemas/report-0.2.2.json), and the
 * file it is appended to.
 */

import { appendFile, mkdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

import { addon } from '../binding.js';
import { typedFileError } from '../file-system-error.js';
import { packageVersion } from '../package-info.js';
import type { BenchResult } from './measure.js';

const REPORT_SCHEMA_VERSION = '0.2.2';

const GB = 1e9;

export type ReportLine = Readonly<Record<string, unknown>>;

/** The line of one measurement. */
export function reportLine(result: BenchResult): ReportLine {
  const { model, median, startedAt, endedAt } = result;
  const { backend, device, mlx } = addon().version();
  const seconds = (endedAt.getTime() - startedAt.getTime()) / 1e3;
  return {
    schema_version: REPORT_SCHEMA_VERSION,
    timestamp: endedAt.toISOString(),
    mlx_knife_version: packageVersion(),
    test: `bench[${model.name}]`,
    outcome: 'passed',
    duration: seconds,
    test_start_ts: startedAt.getTime() / 1e3,
    test_end_ts: endedAt.getTime() / 1e3,
    model: {
      id: model.name,
      size_gb: model.weightBytes / GB,
      family: model.modelType,
      framework: 'MLX',
      quantization: model.weightType,
    },
    performance: {
      tokens_per_sec: median.tokensPerSecond,
      prompt_tokens: result.promptTokens,
      completion_tokens: result.completionTokens,
      duration_s: seconds,
      model_load_time_s: result.loadMs / 1e3,
      time_to_first_token_s: median.firstTokenMs / 1e3,
      peak_ram_gb: result.peakMemoryBytes / GB,
    },
    system: {
      platform: process.platform,
      platform_version: os.release(),
      mlx_version: mlx,
      hardware: os.cpus()[0]?.model.trim() ?? 'unknown',
      ram_total_gb: os.totalmem() / GB,
    },
    metadata: {
      inference_modality: 'text',
      backend,
      device,
      node_version: process.versions.node,
      prompt_tokens_per_sec: median.promptTokensPerSecond,
      runs: result.runs.map((run) => ({
        prompt_tokens_per_sec: run.promptTokensPerSecond,
        tokens_per_sec: run.tokensPerSecond,
        time_to_first_token_s: run.firstTokenMs / 1e3,
      })),
    },
  };
}

/** Where reports go when nobody says otherwise: `benchmarks/reports/YYYY-MM-DD-vX.Y.Z.jsonl` of the working folder. */
export function defaultReportFile(day: Date): string {
  const name = `${day.toISOString().slice(0, 10)}-v${packageVersion()}.jsonl`;
  return path.join('benchmarks', 'reports', name);
}

/** Adds a line to a report; makes the file and its folder where they are missing. */
export async function appendReport(file: string, line: ReportLine): Promise<void> {
  try {
    await mkdir(path.dirname(path.resolve(file)), { recursive: true });
    await appendFile(file, `${JSON.stringify(line)}\n`);
  } catch (error) {
    throw typedFileError(error);
  }
}
