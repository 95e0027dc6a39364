/**
 * The text side of a model: text to ids, ids to text, conversations to prompts. Immutable, and of use after its
 * model is disposed. Knows nothing of tensors and generation.
 */

import { addon } from './binding.js';
import { ChatTemplate, type Message, readTemplates, type RenderSettings } from './chat-template.js';
import { fromNative, MlxkError } from './errors.js';
import { readOptional } from './json-file.js';
import { checkMessages, checkTokens } from './input.js';
import type { NativeDetokenizer, NativeTokenizer } from './native.js';
import { named, type Tool, wrongType } from './options.js';

export interface EncodeOptions {
  /** Add what the tokenizer adds around a text, such as a begin token. Default true. */
  addSpecialTokens?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false. */
  skipSpecialTokens?: boolean | undefined;
}

export interface RenderOptions {
  tools?: readonly Tool[] | undefined;
  /** End with the beginning of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean | undefined;
  /** Extra variables for the template. */
  templateArgs?: Record<string, unknown> | undefined;
}

/**
 * Up to here encoding takes well under a millisecond and a hop to another thread would cost more; above it the
 * event loop is kept free.
 */
const SYNC_ENCODE_CHARACTERS = 8_192;

/** Text, as a model reads and writes it. Got from `Model.tokenizer`. */
export class Tokenizer {
  readonly #native: NativeTokenizer;
  readonly #template: ChatTemplate;
  readonly #specialIds: ReadonlyMap<string, number>;

  constructor(native: NativeTokenizer, template: ChatTemplate) {
    this.#native = native;
    this.#template = template;
    this.#specialIds = new Map(native.specialTokens().map(({ id, content }) => [content, id]));
  }

  /** Largest token id plus one, added tokens included. */
  get vocabSize(): number {
    return this.#native.vocabSize;
  }

  /** Whether the model has a chat template, so that a string is taken as a user's message. */
  get hasChatTemplate(): boolean {
    return this.#template.available;
  }

  /**
   * The token ids of a text. Spellings of special tokens in it become those tokens.
   *
   * @throws TypeError for a wrong type, MlxkError `validation_error` / `invalid_text` for a lone surrogate.
   */
  encode(text: string, options?: EncodeOptions): number[] {
    const { addSpecialTokens = true } = named(options, ['addSpecialTokens']);
    checkText('text', text);
    return Array.from(this.#native.encode(text, flag('addSpecialTokens', addSpecialTokens)));
  }

  /**
   * The text of token ids.
   *
   * @throws TypeError for a wrong type, RangeError for something that is no id.
   */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string {
    const { skipSpecialTokens = false } = named(options, ['skipSpecialTokens']);
    try {
      return this.#native.decode(
        checkTokens('ids', ids),
        flag('skipSpecialTokens', skipSpecialTokens),
      );
    } catch (error) {
      throw fromNative(error);
    }
  }

  /**
   * The prompt text that the model's chat template makes of a conversation.
   *
   * @throws MlxkError `validation_error`: `template_missing`, `template_invalid`, or what rendering ran into.
   */
  render(messages: readonly Message[], options?: RenderOptions): string {
    const known = ['tools', 'addGenerationPrompt', 'templateArgs'];
    const { tools, addGenerationPrompt = true, templateArgs = {} } = named(options, known);
    return this.#template.render(checkMessages(messages), {
      tools: tools as readonly Tool[] | undefined,
      addGenerationPrompt: flag('addGenerationPrompt', addGenerationPrompt),
      templateArgs: templateArgs as Record<string, unknown>,
    }).text;
  }

  /** @internal Ids of a raw prompt; at once for a short one. */
  encodePrompt(text: string): Uint32Array | Promise<Uint32Array> {
    checkText('input', text);
    return this.#encode(text, true);
  }

  /**
   * @internal Ids of a conversation. The template writes the special tokens itself, so none are added; those that a
   * message spells out stay text, so that a user cannot end a turn.
   */
  encodeChat(
    messages: readonly Message[],
    settings: RenderSettings,
  ): Uint32Array | Promise<Uint32Array> {
    for (const { content } of messages)
      if (typeof content === 'string') checkText('content', content);
    const { text, plain } = this.#template.render(messages, settings);
    return this.#encode(text, false, plain);
  }

  /** @internal */
  detokenizer(): NativeDetokenizer {
    return new (addon().Detokenizer)(this.#native, true);
  }

  /** @internal */
  specialId(token: string): number | undefined {
    return this.#specialIds.get(token);
  }

  /** @internal */
  tokenToId(token: string): number | undefined {
    return this.#native.tokenToId(token);
  }

  #encode(
    text: string,
    addSpecialTokens: boolean,
    plain?: Uint32Array,
  ): Uint32Array | Promise<Uint32Array> {
    return text.length <= SYNC_ENCODE_CHARACTERS
      ? this.#native.encode(text, addSpecialTokens, plain)
      : this.#native.encodeAsync(text, addSpecialTokens, plain);
  }
}

/** The tokenizer of a model folder; a folder without tokenizer.json has none. */
export async function readTokenizer(
  folder: string,
  tokenizerConfig: Readonly<Record<string, unknown>> | undefined,
): Promise<Tokenizer | undefined> {
  const json = await readOptional(folder, 'tokenizer.json');
  if (json === undefined) return undefined;
  let native: NativeTokenizer;
  try {
    native = new (addon().Tokenizer)(json);
  } catch (error) {
    throw fromNative(error);
  }
  const special = native.specialTokens().map(({ content }) => content);
  const templates = await readTemplates(folder, tokenizerConfig);
  return new Tokenizer(native, new ChatTemplate(templates, tokenizerConfig ?? {}, special));
}

/** Half a surrogate pair has no UTF-8 form; encoding it would silently change the text. */
function checkText(name: string, text: unknown): void {
  if (typeof text !== 'string') throw wrongType(name, 'a string', text);
  const at = text.search(/\p{Surrogate}/u);
  if (at < 0) return;
  throw new MlxkError('validation_error', `${name} has half a surrogate pair at offset ${at}`, {
    reason: 'invalid_text',
    detail: { offset: at },
  });
}

function flag(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw wrongType(name, 'true or false', value);
  return value;
}
