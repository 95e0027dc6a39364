import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { load, type Model } from '../../lib/index.js';
import { CONTEXT_LENGTH, smallModelFolder, VOCAB_SIZE } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const PROMPT = [5, 6, 7];
const LENGTH = 8;
let folder: string;
/** What a model answers that nothing was done to before. */
let expected: readonly number[];

beforeAll(async () => {
  folder = smallModelFolder();
  await using model = await load(folder);
  expected = (await model.generate({ tokens: PROMPT }, { maxTokens: LENGTH })).tokens;
});
afterAll(removeTemporaryFolders);

/** Longer than a test takes: it is always still running when the next line asks for something. */
const LONG = { maxTokens: 4000 };

type Finish = () => unknown;

/** Brings a fresh model into a state; what it returns is awaited when the test is over. */
const STATES: Record<string, (model: Model) => Finish | Promise<Finish>> = {
  ready: () => () => undefined,
  busy: async (model) => {
    const running = model.generate({ tokens: [1] }, LONG);
    const pieces = running[Symbol.asyncIterator]();
    await pieces.next();
    return async () => pieces.return?.();
  },
  cancelled: (model) => {
    const running = model.generate({ tokens: [1] }, LONG);
    running.abort();
    return async () => expect((await running).finishReason).toBe('abort');
  },
  failed: async (model) => {
    await expect(model.generate({ tokens: [-1] })).rejects.toThrow(RangeError);
    await expect(model.generate({ tokens: [9999] })).rejects.toThrow('9999');
    return () => undefined;
  },
  disposing: (model) => {
    const disposal = model.dispose();
    return () => disposal;
  },
  disposed: async (model) => {
    await model.dispose();
    return () => undefined;
  },
};

/** What each method does where it is allowed. */
const METHODS: Record<string, (model: Model) => unknown> = {
  'generate, awaited': async (model) => {
    const { tokens } = await model.generate({ tokens: PROMPT }, { maxTokens: LENGTH });
    expect(tokens).toEqual(expected);
  },
  'generate, iterated': async (model) => {
    const tokens: number[] = [];
    for await (const piece of model.generate({ tokens: PROMPT }, { maxTokens: LENGTH })) {
      tokens.push(...piece.tokens);
    }
    expect(tokens).toEqual(expected);
  },
  logits: async (model) => {
    const scores = await model.logits(PROMPT);
    expect(scores).toHaveLength(VOCAB_SIZE);
    expect(scores.indexOf(Math.max(...scores))).toBe(expected[0]);
  },
  info: (model) => {
    expect(model.info).toMatchObject({
      modelType: 'llama',
      vocabSize: VOCAB_SIZE,
      hasTokenizer: false,
    });
  },
  'tokenizer of a folder without one': (model) => {
    expect(() => model.tokenizer).toThrow(
      expect.objectContaining({ code: 'validation_error', reason: 'tokenizer_missing' }),
    );
  },
  dispose: async (model) => {
    await model.dispose();
    await model.dispose();
  },
};

/** Allowed in every state unless it needs the weights. */
const NEEDS_WEIGHTS = ['generate, awaited', 'generate, iterated', 'logits'];
const WITHOUT_WEIGHTS = ['disposing', 'disposed'];

describe.each(Object.keys(STATES))('a model that is %s', (state) => {
  let model: Model;
  let finish: Finish;

  beforeEach(async () => {
    model = await load(folder);
    finish = await STATES[state]!(model);
  });
  afterEach(async () => {
    await finish();
    await model.dispose();
  });

  it.each(Object.keys(METHODS))('answers %s as the table says', async (method) => {
    const answer = METHODS[method]!(model);
    if (NEEDS_WEIGHTS.includes(method) && WITHOUT_WEIGHTS.includes(state)) {
      await expect(answer).rejects.toMatchObject({ code: 'validation_error', reason: 'disposed' });
    } else {
      await answer;
    }
  });
});

describe('a model', () => {
  it('that is disposed ends its generations as abort does, and keeps their text', async () => {
    const model = await load(folder);
    const running = model.generate({ tokens: [1] }, LONG);
    const pieces = running[Symbol.asyncIterator]();
    await pieces.next();
    await model.dispose();
    const { finishReason, tokens } = await running;
    expect(finishReason).toBe('abort');
    expect(tokens.length).toBeGreaterThan(0);
    expect(tokens.length).toBeLessThan(LONG.maxTokens);
  });

  it('is disposed at the end of an `await using` block', async () => {
    let kept: Model;
    {
      await using model = await load(folder);
      kept = model;
      await model.logits([1]);
    }
    await expect(kept.logits([1])).rejects.toMatchObject({ reason: 'disposed' });
  });

  it('can be loaded again beside itself, and disposed alone', async () => {
    const first = await load(folder);
    const second = await load(folder);
    await first.dispose();
    await expect(second.logits([1])).resolves.toHaveLength(VOCAB_SIZE);
    await second.dispose();
  });

  it('does not lend its methods to other objects', async () => {
    await using model = await load(folder);
    const forged = Object.create(Object.getPrototypeOf(model) as object) as Model;
    await expect(forged.generate({ tokens: [1] })).rejects.toThrow(TypeError);
    await expect(forged.logits([1])).rejects.toThrow(TypeError);
    expect(() => forged.dispose()).toThrow(TypeError);
  });

  it('keeps its facts from being changed', async () => {
    await using model = await load(folder);
    expect(() => Object.assign(model.info, { vocabSize: 1e9 })).toThrow(TypeError);
  });
});

describe('a load', () => {
  it('that was aborted before it began rejects with the reason', async () => {
    const reason = new Error('not wanted');
    await expect(load(folder, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('that is aborted while weights are read rejects with the reason', async () => {
    const aborting = new AbortController();
    const loading = load(folder, {
      signal: aborting.signal,
      onProgress: () => aborting.abort(),
    });
    queueMicrotask(() => aborting.abort());
    await expect(loading).rejects.toHaveProperty('name', 'AbortError');
  });

  it('whose progress callback throws rejects with that error', async () => {
    const mine = new Error('mine');
    const loading = load(folder, {
      onProgress: () => {
        throw mine;
      },
    });
    await expect(loading).rejects.toBe(mine);
  });

  it('reports bytes up to the whole', async () => {
    const seen: number[] = [];
    let total = 0;
    const model = await load(folder, {
      onProgress: ({ loadedBytes, totalBytes }) => {
        seen.push(loadedBytes);
        total = totalBytes;
      },
    });
    await model.dispose();
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(total);
    expect(total).toBeGreaterThan(0);
  });

  it('that needs more memory than it may take is refused before it takes it', async () => {
    await expect(load(folder, { memoryLimit: 1000 })).rejects.toMatchObject({
      code: 'insufficient_memory',
      message: expect.stringContaining('1000') as string,
    });
  });

  it('for a longer context than the model has is refused', async () => {
    await expect(load(folder, { contextLength: CONTEXT_LENGTH + 1 })).rejects.toMatchObject({
      code: 'validation_error',
      message: expect.stringContaining(String(CONTEXT_LENGTH)) as string,
    });
  });

  it('that failed leaves the next one untouched', async () => {
    await expect(load(folder, { memoryLimit: 1000 })).rejects.toThrow();
    await using model = await load(folder);
    const { tokens } = await model.generate({ tokens: PROMPT }, { maxTokens: LENGTH });
    expect(tokens).toEqual(expected);
  });
});
