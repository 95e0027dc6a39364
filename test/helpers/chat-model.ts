/**
 * Chat models for tests: the small model beside a byte-level tokenizer and a chat template. Single files can be
 * replaced or left out.
 */

import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { smallModelFolder } from './small-model.js';

/** Special tokens of the test tokenizer and their ids, above the 256 bytes. */
export const SPECIAL = { '<|begin|>': 256, '<|im_start|>': 257, '<|im_end|>': 258 } as const;

export const CHAT_TEMPLATE =
  '{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}' +
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';

export interface FixtureFiles {
  /** File name to content; objects are written as JSON, `null` leaves a file of the fixture out. */
  readonly [file: string]: string | object | null;
}

/** A chat model in a folder of its own; `files` replaces or removes single files. */
export function chatModelFolder(files: FixtureFiles = {}): string {
  const folder = smallModelFolder();
  const all: FixtureFiles = {
    'tokenizer.json': tokenizerJson(),
    'tokenizer_config.json': {
      bos_token: '<|begin|>',
      eos_token: '<|im_end|>',
      chat_template: CHAT_TEMPLATE,
    },
    ...files,
  };
  for (const [name, content] of Object.entries(all)) {
    const file = path.join(folder, name);
    if (content === null) rmSync(file, { force: true });
    else writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

/** One token for each byte, in the spelling byte-level tokenizers use, and the special tokens. */
export function tokenizerJson(specialTokens: Readonly<Record<string, number>> = SPECIAL): object {
  const vocab: Record<string, number> = {};
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[String.fromCodePoint(printable ? byte : next++)] = byte;
  }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: Object.entries(specialTokens).map(([content, id]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'ByteLevel',
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: false,
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [
        { SpecialToken: { id: '<|begin|>', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 0 } },
      ],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
      special_tokens: { '<|begin|>': { id: '<|begin|>', ids: [256], tokens: ['<|begin|>'] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: [],
    },
  };
}
