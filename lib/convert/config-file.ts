/**
 * config.json and the index of a converted model, byte for byte as mlx-lm writes them with Python's `json.dump`.
 */

import { stringify } from 'lossless-json';

import { isObject } from '../cache/model-folder.js';
import type { Config } from './source.js';

/** @param quantization new `quantization`; `null` removes the source's, `undefined` keeps it */
export function newConfig(
  config: Config,
  quantization: Config | null | undefined,
  { isMultimodal }: { readonly isMultimodal: boolean },
): Config {
  const made: Config = { ...config };
  delete made['_name_or_path'];
  if (!isMultimodal) delete made['vision_config'];
  if (quantization !== undefined) {
    delete made['quantization'];
    delete made['quantization_config'];
    if (quantization !== null) made['quantization'] = quantization;
    const { quantization_config: stated, ...text } = isObject(made['text_config'])
      ? made['text_config']
      : {};
    if (stated !== undefined) made['text_config'] = text;
  }
  if (made['quantization'] !== undefined) made['quantization_config'] = made['quantization'];
  const byCodePoint = (a: string, b: string): number =>
    Buffer.compare(Buffer.from(a), Buffer.from(b));
  return Object.fromEntries(
    Object.keys(made)
      .sort(byCodePoint)
      .map((key) => [key, made[key]]),
  );
}

/** Four spaces, only ASCII, no newline at the end; numbers as they were written. */
export function pythonJson(value: Config): string {
  const text = stringify(value, null, 4) ?? '';
  // Newlines inside strings are escapes by now.
  return text.replace(
    /[^ -~\n]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
