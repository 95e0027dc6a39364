/**
 * `mlxk run`: one answer, or a conversation.
 */

import { type Command, InvalidArgumentError } from 'commander';

import {
  type GenerateOptions,
  type GenerateResult,
  type Input,
  type Message,
  MlxkError,
  type Model,
} from '../../index.js';
import { parseGenerateOptions } from '../../options.js';
import { chat } from '../chat.js';
import type { ContractError } from '../../contracts/json-api.js';
import { type CliContext, CommandFailure } from '../command.js';
import { INTERRUPTED, Interrupts } from '../interrupt.js';
import { loadWithProgress } from '../loading.js';
import type { Output } from '../output.js';
import { readPrompt } from '../prompt.js';

interface RunFlags {
  readonly system?: string;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly seed?: bigint;
  readonly stop?: string[];
  readonly adapter?: string;
  readonly kvBits?: number;
  readonly kvGroupSize?: number;
  readonly quantizedKvStart?: number;
  readonly stream: boolean;
  readonly verbose?: boolean;
}

const EXAMPLES = `
Examples:
  mlxk run "How do I list my models?"            ask the built-in model
  mlxk run org/model "Why is the sky blue?"      ask a model of the Hugging Face cache
  mlxk run ./my-model                            talk to a model in a folder
  git diff | mlxk run org/model - "Review this"  standard input, then a question

A model is named by its hub id, a unique part of it, id@revision, a folder, or "builtin".
`;

export function register(program: Command, context: CliContext): void {
  program
    .command('run')
    .summary('answer a prompt, or talk')
    .description('Answers a prompt with a model of this machine; without a prompt, talks to you.')
    .argument('[words...]', 'model, then prompt; "-" reads standard input')
    .option('--system <text>', 'instruction that stands before the conversation')
    .option(
      '--max-tokens <n>',
      'longest answer in tokens (default: what the context holds)',
      numberFor('maxTokens'),
    )
    .option(
      '--temperature <t>',
      '0 always takes the best token (default: 0)',
      numberFor('temperature'),
    )
    .option('--top-p <p>', 'sample from the best tokens up to this probability', numberFor('topP'))
    .option('--top-k <k>', 'sample from this many best tokens', numberFor('topK'))
    .option('--min-p <p>', 'drop tokens below this part of the best one', numberFor('minP'))
    .option('--seed <n>', 'make sampling repeatable', seed)
    .option('--stop <text>', 'end the answer before this text; may be repeated', collect)
    .option('--adapter <folder>', 'LoRA or DoRA adapter to answer with')
    .option(
      '--kv-bits <n>',
      'pack keys and values into 2, 3, 4, 5, 6 or 8 bits (default: not)',
      numberFor('kvBits'),
    )
    .option(
      '--kv-group-size <n>',
      'numbers that share a scale: 32, 64 or 128 (default: 64)',
      numberFor('kvGroupSize'),
    )
    .option(
      '--quantized-kv-start <n>',
      'tokens before they are packed (default: 5000)',
      numberFor('quantizedKvStart'),
    )
    .option('--no-stream', 'print the answer when it is whole')
    .option('--verbose', 'report tokens, speed and memory on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (words: string[], flags: RunFlags) => {
      try {
        await run(words, flags, context);
      } catch (cause) {
        throw failure(cause);
      }
    });
}

async function run(words: string[], flags: RunFlags, context: CliContext): Promise<void> {
  const { output, json } = context;
  const { model: name, prompt } = await readPrompt(words, process.stdin);
  if (prompt === undefined && (json || !process.stdin.isTTY)) {
    throw new MlxkError(
      'validation_error',
      json
        ? 'Interactive mode not compatible with JSON output: give a prompt'
        : 'No prompt: give one, pipe it in, or start the interactive chat from a terminal',
      { reason: 'prompt_missing' },
    );
  }

  const interrupts = new Interrupts();
  const startedMs = performance.now();
  const model = await loadInterruptibly(name, flags, output, interrupts);
  const report = (result: GenerateResult): void => {
    if (flags.verbose === true && !json) reportSpeed(result, output);
  };
  if (flags.verbose === true && !json) {
    output.note(`loaded ${model.info.name} in ${seconds(performance.now() - startedMs)}`);
  }
  try {
    const options = generateOptions(flags);
    const { system, stream } = flags;
    if (system !== undefined && !model.info.hasChatTemplate) {
      throw new MlxkError(
        'validation_error',
        `${name} has no chat template, so it takes no --system`,
        {
          reason: 'template_missing',
        },
      );
    }
    if (prompt === undefined) {
      await chat({ model, system, options, output, interrupts, stream, onAnswer: report });
    } else {
      const request = { name, prompt, system, options, stream: stream && !json };
      await answerOnce(model, request, context, interrupts, report);
    }
  } finally {
    await model.dispose();
  }
}

interface AnswerRequest {
  /** The model as it was typed. */
  readonly name: string;
  readonly prompt: string;
  readonly system: string | undefined;
  readonly options: GenerateOptions;
  readonly stream: boolean;
}

async function answerOnce(
  model: Model,
  request: AnswerRequest,
  { output, json }: CliContext,
  interrupts: Interrupts,
  report: (result: GenerateResult) => void,
): Promise<void> {
  const generation = model.generate(inputOf(request), request.options);
  const { value: result, interrupted } = await interrupts.guard(
    () => {
      generation.abort();
    },
    async () => {
      if (!request.stream) return await generation;
      for await (const piece of generation) await output.writeAnswer(piece.text);
      return await generation;
    },
  );
  if (json) {
    await output.success('run', contractData(request, result));
  } else {
    if (!request.stream) await output.writeAnswer(result.text);
    if (!result.text.endsWith('\n')) await output.write('\n');
    if (interrupted) output.note('[Generation interrupted by user]');
    report(result);
  }
  if (interrupted) process.exitCode = INTERRUPTED;
}

/** Only a conversation can carry an instruction; a plain prompt leaves it to the model what it makes of it. */
function inputOf({ prompt, system }: AnswerRequest): Input {
  if (system === undefined) return prompt;
  const messages: Message[] = [
    { role: 'system', content: system },
    { role: 'user', content: prompt },
  ];
  return messages;
}

async function loadInterruptibly(
  name: string,
  { kvBits, kvGroupSize, quantizedKvStart }: RunFlags,
  output: Output,
  interrupts: Interrupts,
): Promise<Model> {
  const aborting = new AbortController();
  const loading = await interrupts
    .guard(
      () => {
        aborting.abort();
      },
      () =>
        loadWithProgress(name, output, aborting.signal, { kvBits, kvGroupSize, quantizedKvStart }),
    )
    .catch((error: unknown) => {
      if (aborting.signal.aborted) process.exit(INTERRUPTED);
      throw error;
    });
  return loading.value;
}

function generateOptions(flags: RunFlags): GenerateOptions {
  const { maxTokens, temperature, topP, topK, minP, seed: seedValue, stop, adapter } = flags;
  return { maxTokens, temperature, topP, topK, minP, seed: seedValue, stop, adapter };
}

function contractData(request: AnswerRequest, result: GenerateResult): Record<string, unknown> {
  const { usage, timings } = result;
  return {
    model: request.name,
    prompt: request.prompt,
    response: result.text,
    finish_reason: result.finishReason,
    usage: {
      prompt_tokens: usage.promptTokens,
      cached_tokens: usage.cachedTokens,
      completion_tokens: usage.completionTokens,
    },
    timings: {
      first_token_ms: timings.firstTokenMs,
      prefill_ms: timings.prefillMs,
      decode_ms: timings.decodeMs,
      prompt_tokens_per_second: timings.promptTokensPerSecond,
      tokens_per_second: timings.tokensPerSecond,
      peak_memory_bytes: timings.peakMemoryBytes,
    },
  };
}

function reportSpeed({ usage, timings, finishReason }: GenerateResult, output: Output): void {
  const { promptTokens, cachedTokens, completionTokens } = usage;
  output.note(
    `prompt: ${promptTokens} tokens (${cachedTokens} cached) at ` +
      `${timings.promptTokensPerSecond.toFixed(1)} tokens/s; ` +
      `time to first token: ${seconds(timings.firstTokenMs)}`,
  );
  output.note(
    `answer: ${completionTokens} tokens at ${timings.tokensPerSecond.toFixed(1)} tokens/s; ` +
      `ended by ${finishReason}; peak memory: ${(timings.peakMemoryBytes / 2 ** 20).toFixed(1)} MiB`,
  );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}

/** In JSON every failure of `run` has the contract's one type; what it was stands beside it. */
function failure(cause: unknown): CommandFailure {
  const message = cause instanceof Error ? cause.message : String(cause);
  const error: ContractError = {
    type: 'execution_error',
    message,
    ...(cause instanceof MlxkError && {
      detail: { ...cause.detail, code: cause.code },
      retryable: cause.retryable,
    }),
  };
  const exitCode = cause instanceof MlxkError ? cause.exitCode : 1;
  return new CommandFailure({ command: 'run', error, label: 'Error', exitCode, cause });
}

/** Parses a number as the option of that name takes it, so that ranges are written down once. */
function numberFor(name: keyof GenerateOptions): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? NaN : Number(text);
    checkOption({ [name]: value });
    return value;
  };
}

function seed(text: string): bigint {
  if (!/^\d{1,20}$/.test(text)) {
    throw new InvalidArgumentError('It must be a whole number of at most 64 bits.');
  }
  const value = BigInt(text);
  checkOption({ seed: value });
  return value;
}

function checkOption(options: GenerateOptions): void {
  try {
    parseGenerateOptions(options);
  } catch (error) {
    // The option and what was typed are said already.
    const { message } = error as Error;
    throw new InvalidArgumentError(
      `${message.replace(/^\w+ must be/, 'It must be').replace(/, got .*$/s, '')}.`,
    );
  }
}

function collect(text: string, earlier: string[] = []): string[] {
  checkOption({ stop: text });
  return [...earlier, text];
}
