import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { load } from '../../lib/index.js';
import { chatModelFolder } from '../helpers/chat-model.js';
import { mlxk, program, run } from '../helpers/child.js';
import { type Envelope, parseEnvelope } from '../helpers/schemas.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

let folder: string;
let env: { HF_HUB_CACHE: string };
/** What the model says to "hi" in 20 tokens. */
let answer: string;

const SHORT = ['--max-tokens', '20'];

beforeAll(async () => {
  folder = chatModelFolder();
  const hub = temporaryFolder();
  for (const id of ['org--alpha', 'org--beta']) {
    mkdirSync(path.join(hub, `models--${id}`, 'snapshots'), { recursive: true });
    symlinkSync(folder, path.join(hub, `models--${id}`, 'snapshots', 'a'.repeat(40)));
  }
  env = { HF_HUB_CACHE: hub };
  await using model = await load(folder);
  answer = (await model.generate('hi', { maxTokens: 20 })).text;
});
afterAll(removeTemporaryFolders);

async function json(
  args: readonly string[],
  input?: string,
): Promise<Envelope & { code: number | null }> {
  const { code, stdout, stderr } = await mlxk([...args, '--json'], {
    env,
    ...(input !== undefined && { input }),
  });
  expect(stderr).toBe('');
  return { ...parseEnvelope(stdout), code };
}

describe('mlxk run', () => {
  it('prints the answer and one newline', async () => {
    const ended = await mlxk(['run', folder, 'hi', ...SHORT], { env });
    expect(ended).toEqual({ code: 0, signal: null, stdout: `${answer}\n`, stderr: '' });
  });

  it('prints the same when it does not stream', async () => {
    const ended = await mlxk(['run', folder, 'hi', ...SHORT, '--no-stream'], { env });
    expect(ended.stdout).toBe(`${answer}\n`);
  });

  it('finds a model of the cache by a part of its name', async () => {
    const ended = await mlxk(['run', 'alpha', 'hi', ...SHORT], { env });
    expect(ended).toMatchObject({ code: 0, stdout: `${answer}\n` });
  });

  it('joins the words of a prompt', async () => {
    expect((await json(['run', folder, 'a', 'b', ...SHORT])).data).toMatchObject({ prompt: 'a b' });
  });

  it('reports speed on stderr when asked', async () => {
    const { stdout, stderr } = await mlxk(['run', folder, 'hi', ...SHORT, '--verbose'], { env });
    expect(stdout).toBe(`${answer}\n`);
    expect(stderr).toMatch(/time to first token: \d+\.\d+ s/);
    expect(stderr).toMatch(/20 tokens at \d+\.\d+ tokens\/s/);
  });

  it('prints one JSON object when asked', async () => {
    expect(await json(['run', folder, 'hi', ...SHORT])).toMatchObject({
      code: 0,
      status: 'success',
      command: 'run',
      error: null,
      data: {
        model: folder,
        prompt: 'hi',
        response: answer,
        finish_reason: 'length',
        usage: { completion_tokens: 20 },
      },
    });
  });

  it('hands its options to the model', async () => {
    const sampled = ['--temperature', '1.5', '--top-p', '0.9', '--top-k', '50', '--min-p', '0.01'];
    const first = await json(['run', folder, 'hi', ...SHORT, ...sampled, '--seed', '5']);
    const again = await json(['run', folder, 'hi', ...SHORT, ...sampled, '--seed', '5']);
    const other = await json(['run', folder, 'hi', ...SHORT, ...sampled, '--seed', '6']);
    expect(first.data!.response).toBe(again.data!.response);
    expect(first.data!.response).not.toBe(other.data!.response);
  });

  it('packs keys and values where it is told to, and says which bits there are', async () => {
    const packing = ['--quantized-kv-start', '0', '--kv-bits'];
    const packed = ['run', 'builtin', 'What is 2 plus 3?', ...SHORT, ...packing];
    expect(await json([...packed, '8'])).toMatchObject({ code: 0, status: 'success' });
    const refused = await mlxk([...packed, '7'], { env });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(
      "argument '7' is invalid. It must be one of 2, 3, 4, 5, 6, 8.",
    );
    const unfit = await json([...packed, '8', '--kv-group-size', '128']);
    expect(unfit.error).toMatchObject({ detail: { code: 'validation_error' } });
    expect(unfit.error!.message).toContain('128 does not divide 64');
  });

  it('takes an instruction that changes the prompt', async () => {
    const plain = await json(['run', folder, 'hi', ...SHORT]);
    const instructed = await json(['run', folder, 'hi', '--system', 'be brief', ...SHORT]);
    const prompted = (envelope: Envelope): number =>
      (envelope.data!.usage as { prompt_tokens: number }).prompt_tokens;
    expect(prompted(instructed) - prompted(plain)).toBe('<s>system\nbe brief<e>\n'.length - 4);
  });

  it('ends before a stop text', async () => {
    const characters = Array.from(answer);
    const stop = characters.slice(4, 7).join('');
    const cut = answer.slice(0, answer.indexOf(stop));
    const ended = await json([
      'run',
      folder,
      'hi',
      ...SHORT,
      '--stop',
      'never seen',
      '--stop',
      stop,
    ]);
    expect(ended.data).toMatchObject({ response: cut, finish_reason: 'stop' });
  });
});

describe('a prompt on standard input', () => {
  it('is read for "-"', async () => {
    expect((await json(['run', folder, '-', ...SHORT], 'from stdin')).data).toMatchObject({
      prompt: 'from stdin',
    });
  });

  it('stands before the words beside "-"', async () => {
    const both = await json(['run', folder, '-', 'extra text', ...SHORT], 'from-stdin');
    expect(both.data).toMatchObject({ prompt: 'from-stdin\n\nextra text' });
    const none = await json(['run', folder, '-', 'tail', ...SHORT], '');
    expect(none.data).toMatchObject({ prompt: '\n\ntail' });
  });

  it('is read when there is no other', async () => {
    const ended = await mlxk(['run', folder, ...SHORT], { env, input: 'hi' });
    expect(ended).toMatchObject({ code: 0, stdout: `${answer}\n` });
  });

  it('is refused when it is no text', async () => {
    const ended = await mlxk(['run', folder, '-'], { env, input: Buffer.from([0xff, 0xfe, 0x00]) });
    expect(ended).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'Error: standard input is not UTF-8 text\n',
    });
  });

  it('is refused when it is longer than any context', async () => {
    const ended = await mlxk(['run', folder, '-'], { env, input: 'x'.repeat(17 * 2 ** 20) });
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/standard input has more than \d+ bytes/);
  });

  it('that is missing is not waited for', async () => {
    const ended = await mlxk(['run', folder], { env });
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr).toMatch(/^Error: No prompt/);
    const envelope = await json(['run', folder]);
    expect(envelope.error).toMatchObject({
      type: 'execution_error',
      message: expect.stringContaining('Interactive') as string,
    });
    expect(envelope.code).toBe(1);
  });
});

describe('a model that cannot be had', () => {
  it.each([
    [['run', 'org/typo', 'hi'], 'model_not_found', /"org\/typo" not found/],
    [['run', 'org/typo'], 'model_not_found', /"org\/typo" not found/],
    [['run', './nowhere'], 'model_not_found', /no model folder at/],
    [['run', 'unknown', 'hi'], 'model_not_found', /"unknown" not found/],
    [['run', 'org', 'hi'], 'ambiguous_match', /Ambiguous.*org\/alpha, org\/beta/],
  ])('%j is said on stderr, and in JSON on stdout', async (args, code, message) => {
    const ended = await mlxk(args, { env });
    expect(ended).toMatchObject({ code: 1, signal: null, stdout: '' });
    expect(ended.stderr).toMatch(/^Error: /);
    expect(ended.stderr).toMatch(message);
    const envelope = await json(args);
    expect(envelope).toMatchObject({ code: 1, status: 'error', command: 'run', data: null });
    expect(envelope.error).toMatchObject({ type: 'execution_error', detail: { code } });
  });

  it('names the folder that is none', async () => {
    const empty = temporaryFolder();
    const ended = await mlxk(['run', empty, 'hi'], { env });
    expect(ended).toMatchObject({
      code: 1,
      stderr: `Error: ${empty} has no config.json, so it is no model folder\n`,
    });
  });
});

describe('a reader that closes the pipe', () => {
  it('ends the program quietly and at once', async () => {
    const command = `"${process.execPath}" "${program}" run "${folder}" hi | head -c 5; echo " \${PIPESTATUS[0]}"`;
    const ended = await run('bash', ['-c', command], { env });
    expect(ended.stderr).toBe('');
    expect(ended.stdout).toMatch(/ 0\n$/);
  });
});

describe('a disk that is full', () => {
  it.runIf(existsSync('/dev/full'))('is said in one line, not by a stack', async () => {
    for (const args of ['run builtin hi', 'run builtin hi --json', 'list', 'show builtin']) {
      const command = `"${process.execPath}" "${program}" ${args} > /dev/full`;
      const ended = await run('sh', ['-c', command], { env });
      expect(ended).toMatchObject({ code: 1, signal: null, stdout: '' });
      expect(ended.stderr).toMatch(/^Error: the output cannot be written: .*\n$/);
    }
  });
});
