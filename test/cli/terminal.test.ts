import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { chatModelFolder } from '../helpers/chat-model.js';
import { mlxk, program, run } from '../helpers/child.js';
import { FixtureCache } from '../helpers/fixture-cache.js';
import { SMALL_CONFIG } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const sessionScript = fileURLToPath(new URL('../helpers/terminal_session.py', import.meta.url));
const CTRL_C = '\u0003';
const CTRL_D = '\u0004';

let folder: string;
/** A model whose answers do not end by themselves while a test runs. */
let endless: string[];

beforeAll(() => {
  folder = chatModelFolder();
  const patient = chatModelFolder({
    'config.json': { ...SMALL_CONFIG, max_position_embeddings: 10_000_000 },
  });
  endless = [patient, '--temperature', '0'];
});
afterAll(removeTemporaryFolders);

type Step = { wait: string } | { send: string };

interface Session {
  code: number | null;
  signal: number | null;
  output: string;
}

/** A command line on a pseudo-terminal. */
async function terminal(
  words: readonly string[],
  steps: readonly Step[],
  env: Record<string, string> = {},
): Promise<Session> {
  const command = [sessionScript, JSON.stringify(steps), process.execPath, program, ...words];
  const { stdout, stderr } = await run('python3', command, { env });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Session;
}

/** `mlxk run` on a pseudo-terminal. */
function session(args: readonly string[], steps: readonly Step[]): Promise<Session> {
  return terminal(['run', ...args], steps);
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

describe('a conversation at the terminal', () => {
  it('greets, answers, ignores empty lines, and ends with a word', async () => {
    const { code, output } = await session(
      [folder, '--max-tokens', '5'],
      [
        { wait: 'You: ' },
        { send: '\r' },
        { wait: 'You: ' },
        { send: 'hello\r' },
        { wait: 'Assistant: ' },
        { wait: 'You: ' },
        { send: 'Quit\r' },
      ],
    );
    expect(output).toContain("Starting interactive chat. Type 'exit' or 'quit' to end.\n\n");
    expect(count(output, 'Assistant: ')).toBe(1);
    expect(output).toMatch(/Goodbye!\n$/);
    expect(code).toBe(0);
  });

  it('goes on when it outgrows the context, without its first turns', async () => {
    const long = 'x '.repeat(300).trim();
    const turn: Step[] = [{ send: `${long}\r` }, { wait: 'Assistant: ' }, { wait: 'You: ' }];
    const { code, output } = await session(
      ['builtin', '--max-tokens', '2', '--system', 'short'],
      [
        { wait: 'You: ' },
        ...[1, 2, 3, 4].flatMap(() => turn),
        { send: `${'x '.repeat(1500).trim()}\r` },
        { wait: '[ERROR] the prompt has' },
        { wait: 'You: ' },
        { send: 'hello\r' },
        { wait: 'Assistant: ' },
        { wait: 'You: ' },
        { send: 'quit\r' },
      ],
    );
    expect(code).toBe(0);
    expect(count(output, '[ERROR]')).toBe(1);
    expect(output).toMatch(/\[Left out for want of room: the first \d turns\]/);
  });

  it('does not compute again what was said before', async () => {
    const { output } = await session(
      [folder, '--max-tokens', '5', '--verbose'],
      [
        { wait: 'You: ' },
        { send: 'hello\r' },
        { wait: 'peak memory' },
        { wait: 'You: ' },
        { send: 'again\r' },
        { wait: 'peak memory' },
        { send: 'quit\r' },
        { wait: 'Goodbye' },
      ],
    );
    const [first, second] = [...output.matchAll(/prompt: (\d+) tokens \((\d+) cached\)/g)];
    expect(first![2]).toBe('0');
    expect(Number(second![2])).toBeGreaterThanOrEqual(Number(first![1]));
  });

  it('remembers what was said', async () => {
    const ask: Step[] = [{ send: 'hello\r' }, { wait: 'prompt: ' }, { wait: 'You: ' }];
    const { output } = await session(
      [folder, '--max-tokens', '5', '--verbose'],
      [{ wait: 'You: ' }, ...ask, ...ask, { send: CTRL_D }],
    );
    const [first, second] = [...output.matchAll(/prompt: (\d+) tokens/g)].map((match) =>
      Number(match[1]),
    );
    expect(second! - first!).toBeGreaterThan('hello'.length * 2);
  });

  it('ends with the end of input', async () => {
    const { code, output } = await session([folder], [{ wait: 'You: ' }, { send: CTRL_D }]);
    expect(output).toMatch(/Goodbye!\n$/);
    expect(code).toBe(0);
  });

  it('takes lines that were typed ahead', async () => {
    const { code, output } = await session(
      [folder, '--max-tokens', '3'],
      [{ wait: 'You: ' }, { send: 'one\rtwo\rexit\r' }],
    );
    expect(count(output, 'Assistant: ')).toBe(2);
    expect(code).toBe(0);
  });

  it('goes on after Ctrl-C stopped an answer', async () => {
    const { code, output } = await session(endless, [
      { wait: 'You: ' },
      { send: 'hello\r' },
      { wait: 'Assistant: ' },
      { send: CTRL_C },
      { wait: '[Generation interrupted by user]' },
      { wait: 'You: ' },
      { send: 'exit\r' },
    ]);
    expect(output).toMatch(/Goodbye!\n$/);
    expect(code).toBe(0);
  });

  it('is left by Ctrl-C at the prompt', async () => {
    const { code, output } = await session([folder], [{ wait: 'You: ' }, { send: CTRL_C }]);
    expect(output).toContain('Chat interrupted. Goodbye!');
    expect(code).toBe(130);
  });

  it('is left by a second Ctrl-C', async () => {
    const { code, output } = await session(endless, [
      { wait: 'You: ' },
      { send: 'hello\r' },
      { wait: 'Assistant: ' },
      { send: CTRL_C + CTRL_C },
    ]);
    expect(output).toContain('Goodbye!');
    expect(code).toBe(130);
  });
});

describe('an answer at the terminal', () => {
  it('is stopped by Ctrl-C: the part that was made stays, the exit code tells', async () => {
    const { code, signal, output } = await session(
      [...endless, 'hello', '--verbose'],
      [{ wait: 'loaded' }, { send: CTRL_C }],
    );
    expect({ code, signal }).toEqual({ code: 130, signal: null });
    expect(output).not.toContain('Error');
  });

  it('shows no control characters, which a pipe gets as they are', async () => {
    // eslint-disable-next-line no-control-regex
    const control = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
    const args = [folder, 'hello', '--max-tokens', '300', '--temperature', '5', '--seed', '1'];
    const piped = await mlxk(['run', ...args]);
    expect(piped.stdout).toMatch(control);
    const { code, output } = await session(args, []);
    expect(code).toBe(0);
    expect(output).toBe(piped.stdout.replace(control, ''));
  });
});

describe('an empty answer is explained to who watches:', () => {
  it.each([
    [['list'], 'No models yet: "mlxk pull org/model" downloads one'],
    [['list', 'nothing'], 'No model is called "nothing" or in part so.'],
    [['list', 'broken'], 'Models that do not run here: 2; "mlxk list --all --health --verbose"'],
    [['health', 'nothing'], 'There is no model "nothing".'],
  ])('%j', async (words, why) => {
    const cache = new FixtureCache();
    if (words[1] === 'broken') for (const id of ['broken-a', 'broken-b']) cache.add(id, {});
    const { code, output } = await terminal(words, [], cache.env);
    expect(code).toBe(0);
    expect(output).toContain(why);
    expect(await cache.run(words)).toMatchObject({ code: 0, stderr: '' });
  });
});
