import { describe, expect, it } from 'vitest';

import { MlxkError } from '../../lib/errors.js';
import { parseGenerateOptions, parseLoadOptions } from '../../lib/options.js';

describe('generation options', () => {
  it('are all optional, greedy by default', () => {
    expect(parseGenerateOptions(undefined)).toEqual({
      maxTokens: undefined,
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
      seed: undefined,
      stop: [],
      logprobs: false,
      signal: undefined,
      templateArgs: {},
      raw: false,
      ignoreEos: false,
      onPrefill: undefined,
      tools: undefined,
      adapter: undefined,
      kvBits: undefined,
      kvGroupSize: undefined,
      quantizedKvStart: undefined,
      promptCache: false,
    });
  });

  it('take undefined as absent', () => {
    expect(parseGenerateOptions({ maxTokens: undefined, topP: undefined }).topP).toBe(1);
  });

  it.each([
    ['maxTokens', 1, 1],
    ['maxTokens', 2 ** 31 - 1, 2 ** 31 - 1],
    ['temperature', 0, 0],
    ['temperature', 100, 100],
    ['topP', Number.MIN_VALUE, Number.MIN_VALUE],
    ['topP', 1, 1],
    ['topK', 0, 0],
    ['topK', 2 ** 31 - 1, 2 ** 31 - 1],
    ['minP', 1, 1],
    ['seed', 0, 0n],
    ['seed', Number.MAX_SAFE_INTEGER, BigInt(Number.MAX_SAFE_INTEGER)],
    ['seed', 2n ** 64n - 1n, 2n ** 64n - 1n],
    ['stop', 'x', ['x']],
    ['stop', ['x', 'yy'], ['x', 'yy']],
    ['raw', true, true],
    ['kvBits', null, null],
    ['kvBits', 8, 8],
    ['promptCache', true, true],
  ] as const)('accept %s %s', (name, value, parsed) => {
    expect(parseGenerateOptions({ [name]: value })[name]).toEqual(parsed);
  });

  const numbers = ['maxTokens', 'temperature', 'topP', 'topK', 'minP', 'seed'];

  it.each(numbers.flatMap((name) => [NaN, Infinity, -Infinity, -1].map((value) => [name, value])))(
    'refuse %s %s as out of range, by name and value',
    (name, value) => {
      const parse = (): unknown => parseGenerateOptions({ [name as string]: value });
      expect(parse).toThrow(RangeError);
      expect(parse).toThrow(new RegExp(`^${name} must be .*, got ${value}$`));
    },
  );

  it.each([
    ['maxTokens', 0],
    ['maxTokens', 1.5],
    ['maxTokens', 2 ** 31],
    ['maxTokens', 2 ** 53],
    ['temperature', 100.001],
    ['topP', 0],
    ['topP', 1.001],
    ['topK', 0.5],
    ['topK', 2 ** 31],
    ['minP', 1.001],
    ['seed', 1.5],
    ['seed', 2 ** 53],
    ['seed', 2n ** 64n],
    ['seed', -1n],
    ['stop', ''],
    ['stop', ['x', '']],
  ])('refuse %s %s as out of range', (name, value) => {
    expect(() => parseGenerateOptions({ [name]: value })).toThrow(RangeError);
  });

  it.each(
    numbers.flatMap((name) => ['1', null, [1], {}, true].map((value) => [name, value] as const)),
  )('refuse %s %j as a wrong type, by name', (name, value) => {
    const parse = (): unknown => parseGenerateOptions({ [name]: value });
    expect(parse).toThrow(TypeError);
    expect(parse).toThrow(new RegExp(`^${name} must be `));
  });

  it.each([
    ['stop', 5],
    ['stop', ['x', 5]],
    ['logprobs', 1],
    ['raw', 'yes'],
    ['signal', {}],
    ['templateArgs', []],
    ['templateArgs', null],
    ['onPrefill', 'f'],
    ['tools', {}],
    ['tools', ['search']],
  ])('refuse %s %j as a wrong type', (name, value) => {
    expect(() => parseGenerateOptions({ [name]: value })).toThrow(TypeError);
  });

  it.each([
    ['temprature', 'temperature'],
    ['max_tokens', 'maxTokens'],
    ['top_p', 'topP'],
    ['stops', 'stop'],
  ])('refuse the unknown %s and suggest %s', (name, meant) => {
    const parse = (): unknown => parseGenerateOptions({ [name]: 1 });
    expect(parse).toThrow(TypeError);
    expect(parse).toThrow(`unknown option "${name}"; did you mean "${meant}"?`);
  });

  it('list what is known where nothing is close', () => {
    expect(() => parseGenerateOptions({ frobnicate: 1 })).toThrow(
      /"frobnicate"; known are: maxTokens, /,
    );
  });

  it.each([null, 5, 'x', []])('refuse %j in place of options', (options) => {
    expect(() => parseGenerateOptions(options)).toThrow(TypeError);
  });

  it('name an option of a later release', () => {
    expect.assertions(3);
    try {
      parseGenerateOptions({ maxKvSize: 4 });
    } catch (error) {
      expect(error).toBeInstanceOf(MlxkError);
      expect((error as MlxkError).code).toBe('not_implemented');
      expect((error as MlxkError).message).toContain('maxKvSize');
    }
  });
});

describe('load options', () => {
  it('leave to the engine what is not given', () => {
    expect(parseLoadOptions({ contextLength: 64 })).toMatchObject({
      contextLength: 64,
      prefillStepSize: undefined,
      memoryLimit: undefined,
    });
  });

  it.each([
    ['prefillStepSize', 0],
    ['prefillStepSize', 65_537],
    ['contextLength', 0],
    ['contextLength', 2 ** 31],
    ['memoryLimit', 0],
    ['memoryLimit', NaN],
    ['threads', 0],
    ['threads', 257],
    ['threads', 1.5],
    ['kvBits', 7],
    ['kvBits', 0],
    ['kvBits', NaN],
    ['kvGroupSize', 48],
    ['quantizedKvStart', -1],
    ['quantizedKvStart', 2 ** 53],
  ])('refuse %s %s', (name, value) => {
    expect(() => parseLoadOptions({ [name]: value })).toThrow(RangeError);
  });

  it('refuse a generation option by name', () => {
    expect(() => parseLoadOptions({ temperature: 1 })).toThrow(/unknown option "temperature"/);
  });
});
