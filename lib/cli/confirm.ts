/**
 * Asks a person before something that is not done silently.
 */

import { createInterface } from 'node:readline/promises';

import { visible } from '../visible.js';

/** Whether somebody can be asked: both ends are a terminal. */
export function canAsk(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY;
}

/** Asks on stderr. An empty answer, `y` and `yes` mean yes; the end of input means no. */
export async function confirm(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const ended = new Promise<undefined>((resolve) => {
      lines.once('close', () => {
        resolve(undefined);
      });
    });
    const answer = await Promise.race([lines.question(`${visible(question)} [Y/n] `), ended]);
    return answer !== undefined && /^(y|yes)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
