/**
 * A conversation at the terminal: asks, answers, remembers. Ends with the end of input, `exit`, or Ctrl-C.
 */

import { createInterface, type Interface } from 'node:readline';

import {
  type GenerateOptions,
  type GenerateResult,
  type Message,
  MlxkError,
  type Model,
} from '../index.js';
import type { Interrupts } from './interrupt.js';
import type { Output } from './output.js';

const LEAVING_WORDS = ['exit', 'quit', 'q'];

export interface ChatSettings {
  readonly model: Model;
  readonly system: string | undefined;
  readonly options: GenerateOptions;
  readonly output: Output;
  readonly interrupts: Interrupts;
  /** Print an answer as it comes, or at once when it is whole. */
  readonly stream: boolean;
  readonly onAnswer: (result: GenerateResult) => void;
}

/** Talks until the person leaves. A failed answer is reported and leaves no trace in the conversation. */
export async function chat(settings: ChatSettings): Promise<void> {
  const { model, output, interrupts } = settings;
  const { stdin, stdout } = process;
  const terminal = stdin.isTTY && stdout.isTTY;
  const reader = createInterface({ input: stdin, output: stdout, terminal, prompt: 'You: ' });
  const lines = new LineQueue(reader);
  reader.on('SIGINT', () => {
    interrupts.interrupt();
  });
  interrupts.beforeLeaving = () => {
    reader.close();
    stdout.write('\nChat interrupted. Goodbye!\n');
  };

  await output.write("Starting interactive chat. Type 'exit' or 'quit' to end.\n\n");
  if (!model.info.hasChatTemplate) {
    output.note('This model has no chat template: each line is continued on its own.');
  }
  const history: Message[] =
    settings.system === undefined ? [] : [{ role: 'system', content: settings.system }];

  for (;;) {
    reader.prompt();
    const line = (await lines.next())?.trim();
    if (line === undefined || LEAVING_WORDS.includes(line.toLowerCase())) break;
    if (line === '') continue;
    const question: Message = { role: 'user', content: line };
    await output.write('\nAssistant: ');
    try {
      history.push(question);
      const result = await answerWithRoom(settings, history, line);
      history.push({ role: 'assistant', content: result.text.trim() });
    } catch (error) {
      history.pop();
      output.note(`[ERROR] ${error instanceof Error ? error.message : String(error)}`);
    }
    await output.write('\n');
  }
  interrupts.beforeLeaving = undefined;
  reader.close();
  await output.write('\nGoodbye!\n');
}

/**
 * Answers the last message of `history`. Turns at its beginning go where the conversation has outgrown the context, and
 * all stay where the question alone is too long.
 */
async function answerWithRoom(
  settings: ChatSettings,
  history: Message[],
  line: string,
): Promise<GenerateResult> {
  const kept = [...history];
  const first = kept[0]?.role === 'system' ? 1 : 0;
  for (;;) {
    try {
      const result = await answer(settings, kept, line);
      const turns = (history.length - kept.length) / 2;
      if (turns > 0) settings.output.note(`[Left out for want of room: the first ${turns} turns]`);
      history.splice(0, history.length, ...kept);
      return result;
    } catch (error) {
      const isFull = error instanceof MlxkError && error.reason === 'context_overflow';
      if (!isFull || kept.length <= first + 1) throw error;
      kept.splice(first, 2);
    }
  }
}

async function answer(
  settings: ChatSettings,
  conversation: readonly Message[],
  line: string,
): Promise<GenerateResult> {
  const { model, options, output, interrupts, stream, onAnswer } = settings;
  const input = model.info.hasChatTemplate ? conversation : line;
  // Each turn repeats the conversation so far.
  const generation = model.generate(input, { ...options, promptCache: true });
  const { value: result, interrupted } = await interrupts.guard(
    () => {
      generation.abort();
    },
    async () => {
      if (!stream) return await generation;
      for await (const piece of generation) await output.writeAnswer(piece.text);
      return await generation;
    },
  );
  if (!stream) await output.writeAnswer(result.text);
  await output.write(interrupted ? '\n[Generation interrupted by user]\n' : '\n');
  onAnswer(result);
  return result;
}

/** Lines in order, those too that were typed while an answer ran; `undefined` at the end of input. */
class LineQueue {
  readonly #lines: string[] = [];
  #closed = false;
  #waiting: ((line: string | undefined) => void) | undefined;

  constructor(reader: Interface) {
    reader.on('line', (line) => {
      if (this.#waiting === undefined) this.#lines.push(line);
      else this.#deliver(line);
    });
    reader.on('close', () => {
      this.#closed = true;
      this.#deliver(undefined);
    });
  }

  next(): Promise<string | undefined> {
    if (this.#lines.length > 0) return Promise.resolve(this.#lines.shift());
    if (this.#closed) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  #deliver(line: string | undefined): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(line);
  }
}
