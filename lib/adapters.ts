/**
 * The adapters (LoRA, DoRA) on one loaded model: which folders were added to the engine, under which numbers. They share
 * the model's weights; each takes its own low-rank matrices more, until the model is disposed.
 */

import path from 'node:path';

import { fromNative } from './errors.js';
import type { NativeModel } from './native.js';

/** The engine's number for the model as it is. */
export const NO_ADAPTER = 0;

export class Adapters {
  readonly #native: NativeModel;
  readonly #added = new Map<string, Promise<number>>();

  constructor(native: NativeModel) {
    this.#native = native;
  }

  /**
   * The number of the adapter in `folder`, which is added at the first call for it.
   *
   * @throws MlxkError `validation_error` with reason `adapter_missing`, `adapter_config_missing`,
   * `adapter_config_invalid`, `tensor_shape`, `tensor_unexpected` and those of broken safetensors files;
   * `insufficient_memory`.
   */
  number(folder: string): Promise<number> {
    const absolute = path.resolve(folder);
    const added = this.#added.get(absolute);
    if (added !== undefined) return added;
    const adding = this.#native.addAdapter(absolute).catch((error: unknown) => {
      this.#added.delete(absolute); // The next call may find it mended.
      throw fromNative(error);
    });
    this.#added.set(absolute, adding);
    return adding;
  }
}
