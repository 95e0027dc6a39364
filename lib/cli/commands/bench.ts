/**
 * `mlxk bench`: how fast a model is on this machine, and the line of a test report about it.
 */

import { type Command, InvalidArgumentError } from 'commander';

import type { BenchResult, BenchRun } from '../../bench/measure.js';
import { type CliContext, operation } from '../command.js';

interface BenchFlags {
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly runs: number;
  /** False after --no-report; absent where the default file is meant. */
  readonly report?: string | boolean;
}

const EXAMPLES = `
Examples:
  mlxk bench org/model
  mlxk bench org/model --prompt-tokens 4096 --max-tokens 32
  mlxk bench ./folder --no-report --json

Figures are medians of runs on prompts of random ids; a first run is not counted. A line about them is added to
benchmarks/reports/<day>-v<version>.jsonl, in the format of the test reports, unless --report says otherwise.
`;

export function register(program: Command, { output, json }: CliContext): void {
  program
    .command('bench')
    .summary('measure a model')
    .description('Measures prompt and answer speed, time to the first token and memory of a model.')
    .argument('<model>', 'hub id, a unique part of one, id@revision, a folder, or "builtin"')
    .option('--prompt-tokens <n>', 'tokens of each prompt', count(1_000_000), 512)
    .option('--max-tokens <n>', 'tokens of each answer', count(1_000_000), 128)
    .option('--runs <n>', 'runs that count', count(1000), 5)
    .option('--report <file>', 'file that the report line is added to')
    .option('--no-report', 'write no report')
    .addHelpText('after', EXAMPLES)
    .action((name: string, flags: BenchFlags) => {
      // What was measured is told even when no report can be written.
      let measured: Record<string, unknown> | undefined;
      const style = { fallback: 'execution_error', data: () => measured };
      return operation('bench', style, async () => {
        const { bench } = await import('../../bench/measure.js');
        const { appendReport, defaultReportFile, reportLine } =
          await import('../../bench/report.js');
        let result: BenchResult;
        try {
          result = await bench(name, {
            ...flags,
            onRun: (run) => {
              if (!output.showsProgress || json) return;
              output.drawProgress(run === 0 ? 'Warming up' : `Run ${run} of ${flags.runs}`);
            },
          });
        } finally {
          output.clearProgress();
        }
        let file: string | null = null;
        if (flags.report !== false) {
          const named = typeof flags.report === 'string' ? flags.report : undefined;
          file = named ?? defaultReportFile(result.endedAt);
          measured = data(result, null);
          try {
            await appendReport(file, reportLine(result));
          } catch (error) {
            if (!json) await output.print(text(result, null));
            throw error;
          }
        }
        if (json) await output.success('bench', data(result, file));
        else await output.print(text(result, file));
      });
    });
}

function count(most: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= 1 && number <= most) return number;
    throw new InvalidArgumentError(`it must be a whole number from 1 to ${most}`);
  };
}

function data(result: BenchResult, report: string | null): Record<string, unknown> {
  const figures = (run: BenchRun): Record<string, number> => ({
    prompt_tokens_per_second: run.promptTokensPerSecond,
    tokens_per_second: run.tokensPerSecond,
    first_token_ms: run.firstTokenMs,
  });
  return {
    model: result.model.name,
    prompt_tokens: result.promptTokens,
    completion_tokens: result.completionTokens,
    ...figures(result.median),
    load_ms: result.loadMs,
    peak_memory_bytes: result.peakMemoryBytes,
    runs: result.runs.map(figures),
    report,
  };
}

function text({ model, median, runs, ...result }: BenchResult, report: string | null): string {
  const spread = (pick: (run: BenchRun) => number): string => {
    const values = runs.map(pick);
    return `(${short(Math.min(...values))} to ${short(Math.max(...values))})`;
  };
  const line = (what: string, value: string): string => `  ${what.padEnd(12)} ${value}\n`;
  return (
    `${model.name}: ${model.modelType}, ${model.weightType}, ${model.layers} layers\n` +
    line('load', `${short(result.loadMs / 1e3)} s`) +
    line(
      'prompt',
      `${short(median.promptTokensPerSecond)} tokens/s ${spread((run) => run.promptTokensPerSecond)}, ${result.promptTokens} tokens`,
    ) +
    line(
      'answer',
      `${short(median.tokensPerSecond)} tokens/s ${spread((run) => run.tokensPerSecond)}, ${result.completionTokens} tokens`,
    ) +
    line('first token', `${short(median.firstTokenMs)} ms ${spread((run) => run.firstTokenMs)}`) +
    line('peak memory', `${short(result.peakMemoryBytes / 1e6)} MB`) +
    (report === null ? '' : line('report', report))
  );
}

function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}
