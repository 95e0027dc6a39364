/**
 * What a caller may give a model to answer: checks its shape and turns it into prompt ids. Whether ids fit the model
 * is the engine's to say.
 */

import type { Message } from './chat-template.js';
import { MlxkError } from './errors.js';
import { type GenerateSettings, outOfRange, wrongType } from './options.js';
import type { Tokenizer } from './tokenizer.js';

/** A prompt as token ids; needs no tokenizer. */
export interface TokenInput {
  readonly tokens: ArrayLike<number>;
}

/**
 * What a model answers: a text (one user message for a model with a chat template, else the prompt itself), a
 * conversation, or token ids.
 */
export type Input = string | readonly Message[] | TokenInput;

/** Prompt ids of an input, and whether it was a conversation. */
export interface Prompt {
  readonly tokens: Uint32Array | Promise<Uint32Array>;
  readonly isChat: boolean;
}

const MAX_ID = 2 ** 32 - 1;

/**
 * Turns an input into prompt ids.
 *
 * @throws TypeError for a wrong shape; MlxkError `validation_error` with reason `empty_prompt`, `tokenizer_missing`,
 * or what the template ran into.
 */
export function toPrompt(
  input: Input,
  settings: GenerateSettings,
  tokenizer: () => Tokenizer,
): Prompt {
  if (isTokenInput(input)) {
    return { tokens: checkTokens('input.tokens', input.tokens), isChat: false };
  }
  if (typeof input !== 'string' && !Array.isArray(input)) {
    throw wrongType('input', 'a string, an array of messages or { tokens }', input);
  }
  if (input === '') throw emptyPrompt('the prompt is empty');
  const messages =
    typeof input === 'string' ? [{ role: 'user', content: input }] : checkMessages(input);
  const text = tokenizer();
  if (typeof input === 'string' && (settings.raw || !text.hasChatTemplate)) {
    return { tokens: text.encodePrompt(input), isChat: false };
  }
  const { tools, templateArgs } = settings;
  const tokens = text.encodeChat(messages, { tools, templateArgs, addGenerationPrompt: true });
  return { tokens, isChat: true };
}

/** @throws TypeError naming the message that has no role or a content that is no text. */
export function checkMessages(messages: unknown): readonly Message[] {
  if (!Array.isArray(messages)) throw wrongType('messages', 'an array of messages', messages);
  if (messages.length === 0) throw emptyPrompt('the conversation has no messages');
  return messages.map((message: unknown, index) => {
    const name = `messages[${index}]`;
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw wrongType(name, 'a message with role and content', message);
    }
    const { role, content } = message as Record<string, unknown>;
    if (typeof role !== 'string') throw wrongType(`${name}.role`, 'a string', role);
    checkContent(`${name}.content`, content);
    return message as Message;
  });
}

function checkContent(name: string, content: unknown): void {
  if (content === undefined || content === null || typeof content === 'string') return;
  if (!Array.isArray(content)) throw wrongType(name, 'a string or an array of parts', content);
  for (const [index, part] of content.entries()) {
    const { type, text } = (part ?? {}) as Record<string, unknown>;
    if (type === 'text' && typeof text === 'string') continue;
    if (typeof type === 'string' && type !== 'text') {
      throw new MlxkError(
        'unsupported_multimodal',
        `${name}[${index}] has type "${type}"; only text is supported`,
        {
          reason: 'content_type_unsupported',
        },
      );
    }
    throw wrongType(`${name}[${index}]`, 'a text part', part);
  }
}

/** @throws TypeError or RangeError naming the first entry that is no id. */
export function checkTokens(name: string, tokens: unknown): Uint32Array {
  if (tokens instanceof Uint32Array) return tokens;
  if (!Array.isArray(tokens) && !(ArrayBuffer.isView(tokens) && 'length' in tokens)) {
    throw wrongType(name, 'an array of token ids', tokens);
  }
  const list = tokens as ArrayLike<unknown>;
  const ids = new Uint32Array(list.length);
  for (let index = 0; index < list.length; index++) {
    const id = list[index];
    if (typeof id !== 'number') throw wrongType(`${name}[${index}]`, 'a token id', id);
    if (!Number.isInteger(id) || id < 0 || id > MAX_ID) {
      throw outOfRange(`${name}[${index}]`, 'a whole number of at least 0', id);
    }
    ids[index] = id;
  }
  return ids;
}

function isTokenInput(input: unknown): input is TokenInput {
  return typeof input === 'object' && input !== null && 'tokens' in input;
}

function emptyPrompt(message: string): MlxkError {
  return new MlxkError('validation_error', message, { reason: 'empty_prompt' });
}
