/**
 * How a call keeps keys and values: its own options over those of `load` over the defaults, which are mlx-lm's.
 */

import type { NativeKvQuantization } from './native.js';

/** The options of the same names, checked; null takes plain keys and values whatever `load` was given. */
export interface KvSettings {
  readonly kvBits: number | null | undefined;
  readonly kvGroupSize: number | undefined;
  readonly quantizedKvStart: number | undefined;
}

const GROUP_SIZE = 64;
const START = 5000;

/** `undefined` where they are kept as they come. */
export function kvQuantization(
  loaded: KvSettings,
  call?: KvSettings,
): NativeKvQuantization | undefined {
  const bits = call?.kvBits === undefined ? loaded.kvBits : call.kvBits;
  if (bits == null) return undefined;
  return {
    bits,
    groupSize: call?.kvGroupSize ?? loaded.kvGroupSize ?? GROUP_SIZE,
    start: call?.quantizedKvStart ?? loaded.quantizedKvStart ?? START,
  };
}
