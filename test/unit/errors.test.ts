import { describe, expect, it } from 'vitest';

import { fromNative, MlxkError } from '../../lib/errors.js';

describe('an error', () => {
  it('carries code, reason and facts', () => {
    const error = new MlxkError('model_not_found', 'gone', {
      reason: 'not_in_cache',
      detail: { model: 'x' },
    });
    expect(error).toMatchObject({
      name: 'MlxkError',
      code: 'model_not_found',
      reason: 'not_in_cache',
      detail: { model: 'x', reason: 'not_in_cache' },
      httpStatus: 404,
      exitCode: 1,
      retryable: false,
    });
  });

  it('of native code becomes one with its code and reason', () => {
    const native = Object.assign(new Error('short'), {
      code: 'validation_error',
      reason: 'tensor_missing',
    });
    const error = fromNative(native);
    expect(error).toBeInstanceOf(MlxkError);
    expect(error).toMatchObject({
      code: 'validation_error',
      reason: 'tensor_missing',
      message: 'short',
    });
    expect(error.cause).toBe(native);
  });

  it('of JavaScript stays what it is', () => {
    for (const error of [new TypeError('x'), new RangeError('y'), new Error('z')]) {
      expect(fromNative(error)).toBe(error);
    }
    const coded = Object.assign(new RangeError('x'), { code: 'validation_error' });
    expect(fromNative(coded)).toBe(coded);
    const system = Object.assign(new Error('x'), { code: 'ENOENT' });
    expect(fromNative(system)).toBe(system);
  });

  it('that is no error is wrapped', () => {
    expect(fromNative('text')).toMatchObject({
      code: 'internal_error',
      message: 'unexpected failure: text',
    });
  });
});
