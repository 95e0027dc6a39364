/**
 * What the operations of `cache` check of their arguments before they do anything: a name is a text, options have
 * known names and the right types. Whether a text or a number makes sense is the operation's to say.
 */

import { named, wrongType } from '../options.js';

interface Kind {
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

const isText = (value: unknown): value is string => typeof value === 'string';

export const TEXT: Kind = { expected: 'a string', fits: isText };
export const TEXT_OR_NULL: Kind = {
  expected: 'a string or null',
  fits: (value) => value === null || isText(value),
};
export const TEXTS: Kind = {
  expected: 'an array of strings',
  fits: (value) => Array.isArray(value) && value.every(isText),
};
export const FLAG: Kind = {
  expected: 'true or false',
  fits: (value) => typeof value === 'boolean',
};
export const COUNT: Kind = {
  expected: 'a whole number of at least 1',
  fits: (value) => Number.isSafeInteger(value) && (value as number) >= 1,
};
export const CALLBACK: Kind = {
  expected: 'a function',
  fits: (value) => typeof value === 'function',
};
export const SIGNAL: Kind = {
  expected: 'an AbortSignal',
  fits: (value) => value instanceof AbortSignal,
};
export const MEMBERS: Kind = {
  expected: 'an object',
  fits: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
};

/** @throws TypeError that names the argument and its value. */
export function check(name: string, value: unknown, kind: Kind): void {
  if (!kind.fits(value)) throw wrongType(name, kind.expected, value);
}

/** @throws TypeError that names an unknown option, or one of another kind; `undefined` counts as absent. */
export function checkOptions<Options>(
  options: Options,
  kinds: { readonly [Name in keyof Required<Options>]: Kind },
): void {
  const given = named(options, Object.keys(kinds));
  for (const [name, kind] of Object.entries<Kind>(kinds)) {
    if (given[name] !== undefined) check(name, given[name], kind);
  }
}
