/**
 * Everything the command line prints: text, envelopes, errors. Model output that goes to a terminal loses control
 * characters, so that a model cannot move the cursor, set the title or write the clipboard; names and messages show
 * them escaped.
 */

import { once } from 'node:events';
import type { WriteStream } from 'node:tty';

import { type ContractError, printed } from '../contracts/json-api.js';
import { visible } from '../visible.js';

/** All control characters but tab and newline: C0, DEL and C1. */
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** Text that a terminal shows as it is read. */
export function forTerminal(text: string): string {
  return text.replace(CONTROL, '');
}

type Stream = NodeJS.WriteStream | WriteStream;

export class Output {
  readonly #stdout: Stream;
  readonly #stderr: Stream;
  #progressDrawn = false;

  constructor(stdout: Stream = process.stdout, stderr: Stream = process.stderr) {
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /** Whether a person watches stderr, so that progress may be drawn there. */
  get showsProgress(): boolean {
    return this.#stderr.isTTY;
  }

  /**
   * Ends the program when nothing can be printed any more. A reader that closes the pipe has had enough: quietly then,
   * as `SIGPIPE` would. A full disk is a failure.
   */
  endOnFailedWrites(): void {
    for (const stream of [this.#stdout, this.#stderr]) {
      stream.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EPIPE') process.exit(0);
        if (stream === this.#stdout)
          this.note(`Error: the output cannot be written: ${error.message}`);
        process.exit(1);
      });
    }
  }

  /** Text of the program itself; waits for a slow reader. */
  async write(text: string): Promise<void> {
    if (text !== '' && !this.#stdout.write(text)) await once(this.#stdout, 'drain');
  }

  /** Text of a model. */
  async writeAnswer(text: string): Promise<void> {
    await this.write(this.#stdout.isTTY ? forTerminal(text) : text);
  }

  /** A line for a person, beside the output. */
  note(text: string): void {
    this.#stderr.write(`${visible(text)}\n`);
  }

  /** What helps a person along; programs get none of it. */
  hint(text: string): void {
    if (this.#stderr.isTTY) this.note(text);
  }

  /** Replaces the line on stderr that progress is drawn on. */
  drawProgress(text: string): void {
    this.#stderr.write(`\r\x1b[K${text}`);
    this.#progressDrawn = true;
  }

  clearProgress(): void {
    if (this.#progressDrawn) this.#stderr.write('\r\x1b[K');
    this.#progressDrawn = false;
  }

  /** Text for a person that may hold names and reasons from files. */
  async print(text: string): Promise<void> {
    await this.write(visible(text));
  }

  async success(command: string, data: Readonly<Record<string, unknown>>): Promise<void> {
    await this.write(printed({ status: 'success', command, data, error: null }));
  }

  async failure(
    command: string | null,
    error: ContractError,
    data: Readonly<Record<string, unknown>> | null = null,
  ): Promise<void> {
    await this.write(printed({ status: 'error', command, data, error }));
  }
}
