/**
 * A model's own chat template: which of the files of its folder holds it, which of several named ones applies, and
 * what variables it sees. Templates are untrusted programs, so each rendering has a budget of instructions and bytes.
 * Knows neither token ids nor generation.
 */

import { readdir } from 'node:fs/promises';
import path from 'node:path';

import { addon } from './binding.js';
import { fromNative, MlxkError } from './errors.js';
import { readOptionalJson, readOptionalText } from './json-file.js';
import type { NativeRendered, NativeTemplate } from './native.js';
import type { Tool } from './options.js';
import { tokenText } from './stop.js';

/** One turn of a conversation. Further fields, such as `tool_calls`, reach the template as they are. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant' | 'tool' | (string & {});
  readonly content?: string | readonly TextPart[] | null;
  readonly [field: string]: unknown;
}

/** A part of a message's content; its text is joined with that of the other parts. */
export interface TextPart {
  readonly type: 'text';
  readonly text: string;
}

/** Templates by name, as source. A folder with one template has it as `default`. */
export type TemplateSources = ReadonlyMap<string, string>;

export interface RenderSettings {
  readonly tools: readonly Tool[] | undefined;
  readonly addGenerationPrompt: boolean;
  readonly templateArgs: Readonly<Record<string, unknown>>;
}

/**
 * A conversation of a thousand turns with tools takes under a million instructions; five million end in well under
 * a second, which is how long a hostile template can hold the event loop.
 */
const TEMPLATE_FUEL = 5_000_000;
/** Four bytes for each token of a context of four million. */
const TEMPLATE_OUTPUT_BYTES = 16 * 2 ** 20;

/** Special tokens that templates know by these names. */
const TOKEN_VARIABLES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
];

/**
 * The chat templates of a model folder. chat_template.jinja comes before chat_template.json, and that before
 * tokenizer_config.json; files under additional_chat_templates add named ones.
 */
export async function readTemplates(
  folder: string,
  tokenizerConfig: Readonly<Record<string, unknown>> | undefined,
): Promise<TemplateSources> {
  const templates = new Map<string, string>();
  const own =
    (await readOptionalText(folder, 'chat_template.jinja')) ??
    (await readOptionalJson(folder, 'chat_template.json'))?.chat_template ??
    tokenizerConfig?.chat_template;
  if (typeof own === 'string') templates.set('default', own);
  for (const entry of Array.isArray(own) ? (own as unknown[]) : []) {
    const { name, template } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name === 'string' && typeof template === 'string') templates.set(name, template);
  }
  for (const file of await namedTemplateFiles(folder)) {
    const source = await readOptionalText(path.join(folder, NAMED_FOLDER), file);
    if (source !== undefined) templates.set(path.basename(file, '.jinja'), source);
  }
  return templates;
}

const NAMED_FOLDER = 'additional_chat_templates';

async function namedTemplateFiles(folder: string): Promise<string[]> {
  const files = await readdir(path.join(folder, NAMED_FOLDER)).catch(() => []);
  return files.filter((file) => file.endsWith('.jinja'));
}

/** Renders conversations for one model. Templates are compiled when first used. */
export class ChatTemplate {
  readonly #sources: TemplateSources;
  readonly #compiled = new Map<string, NativeTemplate>();
  readonly #variables: Record<string, unknown>;
  readonly #specialTokens: string[];

  constructor(
    sources: TemplateSources,
    tokenizerConfig: Readonly<Record<string, unknown>>,
    specialTokens: readonly string[],
  ) {
    this.#sources = sources;
    this.#variables = tokenVariables(tokenizerConfig);
    this.#specialTokens = [...specialTokens];
  }

  /** Whether the model has a template, and so takes conversations. */
  get available(): boolean {
    return this.#sources.size > 0;
  }

  /**
   * The prompt of a conversation, and which parts of it are ordinary text however they are spelled.
   *
   * @throws MlxkError `validation_error`: `template_missing`, `template_invalid`, or what rendering ran into.
   */
  render(messages: readonly Message[], settings: RenderSettings): NativeRendered {
    const { tools, addGenerationPrompt, templateArgs } = settings;
    const template = this.#compile(this.#choose(tools));
    const context = {
      ...this.#variables,
      ...templateArgs,
      messages: messages.map(withPlainContent),
      tools: tools ?? null,
      documents: templateArgs.documents ?? null,
      add_generation_prompt: addGenerationPrompt,
    };
    try {
      return template.render(toJson(context), this.#specialTokens);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Source of the template for this request. */
  #choose(tools: readonly Tool[] | undefined): string {
    const forTools = tools === undefined ? undefined : this.#sources.get('tool_use');
    const source = forTools ?? this.#sources.get('default');
    if (source !== undefined) return source;
    const names = [...this.#sources.keys()];
    const what =
      names.length === 0
        ? 'this model has no chat template: give a string or token ids instead of messages'
        : `this model has no default chat template, only: ${names.join(', ')}`;
    throw new MlxkError('validation_error', what, { reason: 'template_missing' });
  }

  #compile(source: string): NativeTemplate {
    let template = this.#compiled.get(source);
    if (template === undefined) {
      const limits = { fuel: TEMPLATE_FUEL, maxOutputBytes: TEMPLATE_OUTPUT_BYTES };
      try {
        template = new (addon().ChatTemplate)(source, limits);
      } catch (error) {
        throw fromNative(error);
      }
      this.#compiled.set(source, template);
    }
    return template;
  }
}

function tokenVariables(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const variables: Record<string, unknown> = {};
  for (const name of TOKEN_VARIABLES) {
    const text = tokenText(config[name]);
    if (text !== undefined) variables[name] = text;
  }
  return variables;
}

/** Templates of text models expect a string, so the parts of a content are joined. */
function withPlainContent(message: Message): Message {
  if (!Array.isArray(message.content)) return message;
  const parts = message.content as readonly TextPart[];
  return { ...message, content: parts.map(({ text }) => text).join('') };
}

function toJson(context: Record<string, unknown>): string {
  try {
    return JSON.stringify(context);
  } catch (cause) {
    throw new MlxkError(
      'validation_error',
      `messages, tools and templateArgs must be plain data: ${(cause as Error).message}`,
      { reason: 'not_plain_data', cause },
    );
  }
}
