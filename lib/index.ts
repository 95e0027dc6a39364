/**
 * The public API of mlxk: MLX language models inside the Node process.
 */

import type { Generation } from './generation.js';
import type { Input } from './input.js';
import { Model } from './model.js';
import type { GenerateOptions } from './options.js';
import { generateShared } from './shared-models.js';

/**
 * Answers an input with a model: await the call for the whole answer, or iterate it for the pieces.
 *
 * A model given by name is loaded on first use, shared by calls at the same time, and freed some minutes after the
 * last one, or as soon as another is loaded this way. To decide that yourself, `load` the model and pass it.
 *
 * @throws (as rejection, or from the loop) what `load` and `Model.generate` throw.
 *
 * @example
 * const { text } = await generate('builtin', 'How do I list my models?')
 */
export function generate(
  model: string | Model,
  input: Input,
  options?: GenerateOptions,
): Generation {
  return model instanceof Model
    ? model.generate(input, options)
    : generateShared(model, input, options);
}

export * as cache from './cache/index.js';
export { load } from './load.js';
export { MlxkError } from './errors.js';
export type { ErrorCode, ErrorDetail } from './errors.js';
export type { Model, ModelInfo } from './model.js';
export type { Generation } from './generation.js';
export type {
  FinishReason,
  GenerateResult,
  Piece,
  Timings,
  TokenLogprob,
  Usage,
} from './answer.js';
export type { Input, TokenInput } from './input.js';
export type { Message, TextPart } from './chat-template.js';
export type {
  GenerateOptions,
  LoadOptions,
  LoadProgress,
  PrefillProgress,
  Tool,
} from './options.js';
export type { DecodeOptions, EncodeOptions, RenderOptions, Tokenizer } from './tokenizer.js';
