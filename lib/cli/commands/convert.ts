/**
 * `mlxk convert`: a new workspace from a model folder.
 */

import type { Command } from 'commander';

import type { ConvertResult } from '../../convert/convert.js';
import type { ConvertOptions } from '../../convert/options.js';
import { type CliContext, CommandFailure, operation } from '../command.js';
import { INTERRUPTED, Interrupts } from '../interrupt.js';
import { progressLine } from '../progress.js';

interface ConvertFlags {
  readonly repairIndex?: boolean;
  readonly quantize?: string;
  readonly mode?: string;
  readonly qGroupSize?: string;
  readonly mixed?: string;
  readonly dequantize?: boolean;
  readonly dtype?: string;
  readonly skipHealth?: boolean;
}

const EXAMPLES = `
Examples:
  mlxk convert ./model ./model-4bit --quantize 4
  mlxk convert ./model ./model-mxfp4 --quantize 4 --mode mxfp4
  mlxk convert ./model ./model-mixed --quantize 4 --mixed mixed_4_6
  mlxk convert ./model-4bit ./model-plain --dequantize
  mlxk convert ./model ./model-f16 --dtype float16
  mlxk convert ./model.gguf ./model-8bit --quantize 8
  mlxk convert ./broken ./mended --repair-index

The target must not exist. Names without a slash are workspaces below MLXK_WORKSPACE_HOME where that is set.
`;

export function register(program: Command, context: CliContext): void {
  program
    .command('convert')
    .summary('quantize, dequantize or mend a model folder')
    .description('Makes a new workspace from a model folder; the source is only read.')
    .argument('<source>', 'folder with config.json and weights, or a GGUF file')
    .argument('<target>', 'folder to make')
    .option('--repair-index', 'rebuild the index of the weight files, change nothing else')
    .option('--quantize <bits>', 'quantize to 2, 3, 4, 6 or 8 bits')
    .option('--mode <mode>', 'affine, mxfp4, mxfp8 or nvfp4 (default: affine)')
    .option('--q-group-size <n>', 'numbers that share a scale (default: 64, or what the mode has)')
    .option('--mixed <recipe>', 'mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6')
    .option('--dequantize', 'turn quantized weights into plain ones')
    .option('--dtype <type>', 'float16, bfloat16 or float32 for what is not quantized')
    .option('--skip-health', 'do not check the result')
    .addHelpText('after', EXAMPLES)
    .action(async (source: string, target: string, flags: ConvertFlags) => {
      await run(source, target, flags, context);
    });
}

async function run(
  source: string,
  target: string,
  flags: ConvertFlags,
  context: CliContext,
): Promise<void> {
  const { convert } = await import('../../convert/convert.js');
  const base = { source, target, mode: modeOf(flags), health_check: flags.skipHealth !== true };
  const style = {
    fallback: 'OSError',
    names: {
      validation_error: 'ValueError',
      model_not_found: 'ValueError',
      internal_error: 'OSError',
      access_denied: 'OSError',
      permission_denied: 'OSError',
    },
    data: () => base,
  };
  await operation('convert', style, async () => {
    const aborted = new AbortController();
    const interrupts = new Interrupts();
    const progress = progressLine(context.output, `Converting ${source}`);
    let result: ConvertResult;
    try {
      const options = { ...optionsOf(flags), signal: aborted.signal, onProgress: progress.update };
      const work = async (): Promise<ConvertResult> => await convert(source, target, options);
      result = (
        await interrupts.guard(() => {
          aborted.abort();
        }, work)
      ).value;
    } catch (cause) {
      throw failureOf(cause, aborted.signal.aborted, base);
    } finally {
      progress.end();
    }
    await show(result, base, context);
  });
}

function failureOf(cause: unknown, aborted: boolean, data: Record<string, unknown>): unknown {
  const failure = (type: string, message: string, exitCode = 1): CommandFailure =>
    new CommandFailure({ command: 'convert', error: { type, message }, data, exitCode, cause });
  if (aborted) {
    return failure('UserCancelledError', 'Operation cancelled by user.', INTERRUPTED);
  }
  if (cause instanceof TypeError || cause instanceof RangeError) {
    return failure('InvalidArgumentError', inFlags(cause.message));
  }
  return cause;
}

async function show(
  result: ConvertResult,
  base: Record<string, unknown>,
  { output, json }: CliContext,
): Promise<void> {
  const { health, bits, groupSize, warning, message, contentHash } = result;
  const data = {
    ...base,
    ...(health !== undefined && {
      health_status: health.healthy ? 'healthy' : 'unhealthy',
      health_reason: health.reason,
    }),
    message,
    ...(warning !== undefined && { warning }),
    ...(bits !== undefined && { bits, group_size: groupSize }),
    ...(contentHash !== null && { content_hash: contentHash }),
  };
  if (health?.healthy === false) {
    const error = {
      type: 'HealthCheckFailed',
      message: `Health check failed: ${health.reason}; the output was left in place`,
    };
    throw new CommandFailure({ command: 'convert', error, data });
  }
  if (json) {
    await output.success('convert', data);
    return;
  }
  const lines = [
    `convert: ${result.source} → ${result.target}`,
    `  Mode: ${result.mode}`,
    ...(warning === undefined ? [] : [`  ⚠ ${warning}`]),
    `  ${message}`,
    ...(health === undefined ? [] : ['  ✓ Health check: passed']),
  ];
  await output.print(`${lines.join('\n')}\n`);
}

function modeOf(flags: ConvertFlags): string {
  if (flags.repairIndex === true) return 'repair-index';
  if (flags.quantize !== undefined) return 'quantize';
  return flags.dequantize === true ? 'dequantize' : 'dtype';
}

/** Values are checked by the operation, which names the option; here they only get their types. */
function optionsOf(flags: ConvertFlags): ConvertOptions {
  const { quantize, qGroupSize, ...rest } = flags;
  const options = {
    ...rest,
    ...(quantize !== undefined && { quantize: numberIn(quantize) }),
    ...(qGroupSize !== undefined && { groupSize: numberIn(qGroupSize) }),
  };
  Reflect.deleteProperty(options, 'json');
  return options as ConvertOptions;
}

/** What is no number stays as it was typed, and is refused as that. */
function numberIn(typed: string): number | string {
  return /^\d+$/.test(typed) ? Number(typed) : typed;
}

/** A message about options, with the names they have on the command line. */
function inFlags(message: string): string {
  return message
    .replace(/\bgroupSize\b/g, '--q-group-size')
    .replace(/\brepairIndex\b/g, '--repair-index')
    .replace(/\bskipHealth\b/g, '--skip-health')
    .replace(/\b(quantize|mixed|dequantize|dtype|mode)\b/g, '--$1');
}
