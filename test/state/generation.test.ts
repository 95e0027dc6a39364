import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { type GenerateResult, load, type Model, type Piece } from '../../lib/index.js';
import { CONTEXT_LENGTH, smallModelFolder, VOCAB_SIZE } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let folder: string;
let model: Model;
/** What the model answers to `PROMPT` when nothing was done to it before. */
let expected: GenerateResult;
const PROMPT = { tokens: [1, 2, 3] };
const SHORT = { maxTokens: 12, logprobs: true };
/** Longer than a test takes. */
const LONG = { maxTokens: 4000 };

beforeAll(async () => {
  folder = smallModelFolder();
  model = await load(folder);
  expected = await model.generate(PROMPT, SHORT);
});
afterAll(async () => {
  await model.dispose();
  removeTemporaryFolders();
});

/** What a generation left behind must not change the next one. */
async function expectUntouched(): Promise<void> {
  const { tokens } = await model.generate(PROMPT, SHORT);
  expect(tokens).toEqual(expected.tokens);
}

async function collect(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const all: Piece[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}

describe('a generation', () => {
  it('can be awaited, as often as one likes', async () => {
    const answer = model.generate(PROMPT, { maxTokens: 3 });
    expect(await answer).toBe(await answer);
    expect((await answer).tokens).toHaveLength(3);
  });

  it('can be iterated and then awaited', async () => {
    const answer = model.generate(PROMPT, { maxTokens: 3 });
    const pieces = await collect(answer);
    expect(pieces.flatMap(({ tokens }) => tokens)).toEqual((await answer).tokens);
  });

  it('can be awaited and then iterated', async () => {
    const answer = model.generate(PROMPT, { maxTokens: 200 });
    const { tokens } = await answer;
    expect((await collect(answer)).flatMap((piece) => piece.tokens)).toEqual(tokens);
  });

  it('can be awaited in the middle of its pieces', async () => {
    const answer = model.generate(PROMPT, { maxTokens: 300 });
    let pieces = 0;
    for await (const piece of answer) {
      pieces += piece.tokens.length;
      if (pieces === 2) expect((await answer).tokens).toHaveLength(300);
    }
    expect(pieces).toBe(300);
  });

  it('gives its pieces once', async () => {
    const answer = model.generate(PROMPT, { maxTokens: 2 });
    await collect(answer);
    await expect(collect(answer)).rejects.toMatchObject({ reason: 'already_iterated' });
  });

  it('is over for a reader that left', async () => {
    const pieces = model.generate(PROMPT, { maxTokens: 300 })[Symbol.asyncIterator]();
    await pieces.next();
    await pieces.return!();
    expect(await pieces.next()).toEqual({ value: undefined, done: true });
  });

  it('has then, catch and finally', async () => {
    await expect(
      model.generate(PROMPT, { maxTokens: 1 }).then(({ tokens }) => tokens.length),
    ).resolves.toBe(1);
    await expect(model.generate({ tokens: [] }).catch(() => 'caught')).resolves.toBe('caught');
    let ended = false;
    await model.generate(PROMPT, { maxTokens: 1 }).finally(() => (ended = true));
    expect(ended).toBe(true);
  });

  it('runs beside others with the same result', async () => {
    const prompts = [[7], [1, 2, 3], Array.from({ length: 41 }, (_, i) => 3 * i)];
    const alone: (readonly number[])[] = [];
    for (const tokens of prompts) alone.push((await model.generate({ tokens }, SHORT)).tokens);
    const beside = await Promise.all(prompts.map((tokens) => model.generate({ tokens }, SHORT)));
    expect(beside.map(({ tokens }) => tokens)).toEqual(alone);
  });

  it('counts what it did', async () => {
    const { usage, timings, finishReason, logprobs } = await model.generate(PROMPT, {
      maxTokens: 5,
    });
    expect(finishReason).toBe('length');
    expect(usage).toMatchObject({ promptTokens: 3, completionTokens: 5 });
    expect(timings.firstTokenMs).toBeGreaterThan(0);
    expect(timings.tokensPerSecond).toBeGreaterThan(0);
    expect(timings.peakMemoryBytes).toBeGreaterThanOrEqual(model.info.weightBytes);
    expect(logprobs).toBeUndefined();
  });

  it('tells the probability of each token when asked', async () => {
    const answer = model.generate(PROMPT, SHORT);
    const pieces = await collect(answer);
    const { logprobs, tokens } = await answer;
    expect(pieces.flatMap((piece) => piece.logprobs ?? [])).toEqual(logprobs);
    expect(logprobs!.map(({ token }) => token)).toEqual(tokens);
    const scores = await model.logits(PROMPT.tokens);
    const best = Math.max(...scores);
    const logSum = Math.log(scores.reduce((sum, score) => sum + Math.exp(score - best), 0));
    expect(logprobs![0]!.logprob).toBeCloseTo(-logSum, 3);
  });

  it('reports how far the prompt is, up to all of it', async () => {
    const seen: number[] = [];
    const tokens = Array.from({ length: 700 }, (_, index) => index % VOCAB_SIZE);
    await model.generate(
      { tokens },
      {
        maxTokens: 1,
        onPrefill: ({ processedTokens, totalTokens }) => {
          expect(totalTokens).toBe(700);
          seen.push(processedTokens);
        },
      },
    );
    expect(seen.length).toBeGreaterThan(0);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('ends at the context where no other limit is given', async () => {
    await using small = await load(folder, { contextLength: 20 });
    const { finishReason, usage } = await small.generate(PROMPT);
    expect(finishReason).toBe('length');
    expect(usage.promptTokens + usage.completionTokens).toBeLessThanOrEqual(21);
    expect(usage.completionTokens).toBeGreaterThanOrEqual(17);
  });

  it('of a prompt that fills the context is over at once', async () => {
    await using small = await load(folder, { contextLength: 3 });
    const { finishReason, tokens } = await small.generate(PROMPT);
    expect({ finishReason, tokens }).toEqual({ finishReason: 'length', tokens: [] });
  });

  it('is repeatable by its seed, alone or beside others', async () => {
    const options = { maxTokens: 30, temperature: 1, seed: 7 };
    const alone = await model.generate(PROMPT, options);
    const [beside, other] = await Promise.all([
      model.generate(PROMPT, options),
      model.generate(PROMPT, { ...options, seed: 8 }),
    ]);
    expect(beside.tokens).toEqual(alone.tokens);
    expect(other.tokens).not.toEqual(alone.tokens);
  });
});

describe('a generation is ended', () => {
  it('by leaving the loop: its result says so and has the pieces so far', async () => {
    const answer = model.generate(PROMPT, LONG);
    let seen = 0;
    for await (const piece of answer) {
      seen += piece.tokens.length;
      if (seen >= 5) break;
    }
    const { finishReason, tokens } = await answer;
    expect(finishReason).toBe('abort');
    expect(tokens.length).toBeGreaterThanOrEqual(5);
    expect(tokens.length).toBeLessThan(LONG.maxTokens);
    await expectUntouched();
  });

  it('by a throw in the loop, which reaches the caller', async () => {
    const answer = model.generate(PROMPT, LONG);
    const reading = (async () => {
      for await (const piece of answer) throw new Error(`mine ${piece.tokens.length}`);
    })();
    await expect(reading).rejects.toThrow('mine 1');
    expect((await answer).finishReason).toBe('abort');
    await expectUntouched();
  });

  it('by abort, before it began, while it runs, twice, and after its end', async () => {
    const early = model.generate(PROMPT, LONG);
    early.abort();
    expect(await early).toMatchObject({ finishReason: 'abort', text: '' });

    const late = model.generate(PROMPT, LONG);
    for await (const piece of late) {
      expect(piece.kind).toBe('answer');
      late.abort();
      late.abort();
    }
    expect((await late).finishReason).toBe('abort');

    const whole = model.generate(PROMPT, { maxTokens: 2 });
    await whole;
    whole.abort();
    expect((await whole).finishReason).toBe('length');
    await expectUntouched();
  });

  it('by a signal that was aborted before: nothing begins', async () => {
    const reason = new Error('not wanted');
    const signal = AbortSignal.abort(reason);
    await expect(model.generate(PROMPT, { signal })).rejects.toBe(reason);
    await expect(collect(model.generate(PROMPT, { signal }))).rejects.toBe(reason);
  });

  it('by a signal while it runs: both readers get its reason', async () => {
    const aborting = new AbortController();
    const iterated = model.generate(PROMPT, { ...LONG, signal: aborting.signal });
    const awaited = model.generate(PROMPT, { ...LONG, signal: aborting.signal });
    const outcome = expect(awaited).rejects.toHaveProperty('name', 'AbortError');
    const reading = (async () => {
      for await (const piece of iterated) if (piece.tokens.length > 0) aborting.abort();
    })();
    await expect(reading).rejects.toHaveProperty('name', 'AbortError');
    await outcome;
    await expectUntouched();
  });

  it('by a signal while the prompt is processed', async () => {
    const aborting = new AbortController();
    const tokens = Array.from({ length: 4000 }, (_, index) => index % VOCAB_SIZE);
    const answer = model.generate(
      { tokens },
      { signal: aborting.signal, onPrefill: () => aborting.abort() },
    );
    await expect(answer).rejects.toHaveProperty('name', 'AbortError');
    await expectUntouched();
  });

  it("by an error of the caller's own callback", async () => {
    const answer = model.generate(PROMPT, {
      onPrefill: () => {
        throw new Error('mine');
      },
    });
    await expect(answer).rejects.toThrow('mine');
    await expectUntouched();
  });

  it('not by a signal that is aborted after the end', async () => {
    const aborting = new AbortController();
    const answer = model.generate(PROMPT, { maxTokens: 2, signal: aborting.signal });
    await answer;
    aborting.abort();
    expect((await answer).finishReason).toBe('length');
  });
});

describe('a reader that stops reading', () => {
  it('stops the engine, and others go on', async () => {
    const stalled = model.generate(PROMPT, LONG);
    const pieces = stalled[Symbol.asyncIterator]();
    await pieces.next();
    // Many steps of another generation pass; a stalled one that did not wait would be far ahead by then.
    await model.generate(PROMPT, { maxTokens: 400 });
    stalled.abort();
    const { tokens } = await stalled;
    expect(tokens.length).toBeLessThan(100);
    await pieces.return?.();
  });
});

describe('bad input is refused by name', () => {
  it.each([
    ['an empty prompt', { tokens: [] }, { code: 'validation_error', reason: 'empty_prompt' }],
    ['an empty text', '', { code: 'validation_error', reason: 'empty_prompt' }],
    ['no messages', [], { code: 'validation_error', reason: 'empty_prompt' }],
    [
      'an id above the vocabulary',
      { tokens: [VOCAB_SIZE] },
      { code: 'validation_error', reason: 'token_out_of_range' },
    ],
    [
      'the largest id',
      { tokens: [2 ** 32 - 1] },
      { code: 'validation_error', reason: 'token_out_of_range' },
    ],
    [
      'a text without tokenizer',
      'hello',
      { code: 'validation_error', reason: 'tokenizer_missing' },
    ],
    [
      'a prompt above the context',
      { tokens: Array(CONTEXT_LENGTH + 1).fill(1) },
      { code: 'validation_error', reason: 'context_overflow' },
    ],
    ['a negative id', { tokens: [-1] }, { name: 'RangeError', message: /input\.tokens\[0\].*-1/ }],
    [
      'half an id',
      { tokens: [1, 0.5] },
      { name: 'RangeError', message: /input\.tokens\[1\].*0\.5/ },
    ],
    ['no id at all', { tokens: ['1'] }, { name: 'TypeError' }],
    ['NaN for an id', { tokens: [NaN] }, { name: 'RangeError' }],
    ['nothing', undefined, { name: 'TypeError' }],
    ['a number', 5, { name: 'TypeError' }],
    [
      'messages without tokenizer',
      [{ role: 'user', content: 'x' }],
      { reason: 'tokenizer_missing' },
    ],
    [
      'a message without role',
      [{ content: 'x' }],
      { name: 'TypeError', message: /messages\[0\]\.role/ },
    ],
  ] as const)('%s', async (_, input, expected) => {
    const error = await model.generate(input as never).then(
      () => expect.fail('it was answered'),
      (thrown: unknown) => thrown as Error & { code?: string; reason?: string },
    );
    for (const [field, value] of Object.entries(expected)) {
      const actual = error[field as keyof Error];
      if (value instanceof RegExp) expect(actual).toMatch(value);
      else expect(actual).toBe(value);
    }
    await expectUntouched();
  });

  it.each([
    [{ temperature: NaN }, RangeError, /temperature must be .* got NaN/],
    [{ maxToken: 5 }, TypeError, /unknown option "maxToken"; did you mean "maxTokens"/],
    [{ topK: '5' }, TypeError, /topK must be .* got "5"/],
  ])('options %j', async (options, type, message) => {
    const answer = (): Promise<unknown> =>
      Promise.resolve(model.generate(PROMPT, options as never));
    await expect(answer()).rejects.toThrow(type);
    await expect(answer()).rejects.toThrow(message);
    await expect(collect(model.generate(PROMPT, options as never))).rejects.toThrow(message);
  });

  it.each([
    [[], { reason: 'empty_prompt' }],
    [[VOCAB_SIZE], { reason: 'token_out_of_range' }],
    [Array(CONTEXT_LENGTH + 1).fill(1), { reason: 'context_overflow' }],
  ])('ids for logits %#', async (ids, expected) => {
    await expect(model.logits(ids as number[])).rejects.toMatchObject(expected);
  });
});
