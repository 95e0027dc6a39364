/**
 * tokenizer.json and tokenizer_config.json from the metadata of a GGUF file: byte-level BPE with the pre-tokenizers of
 * the llama 3 and qwen families and of GPT-2, and SentencePiece BPE of the llama and gemma families. Other kinds are
 * refused by name. Reference: llama.cpp, src/llama-vocab.cpp; transformers, convert_slow_tokenizer.py.
 */

import { MlxkError } from '../errors.js';
import type { GgufValue } from './reader.js';

type Metadata = ReadonlyMap<string, GgufValue>;

/** File name → content. */
export type TextFiles = Readonly<Record<string, string>>;

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const AFTER_NUMBERS = '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}${AFTER_NUMBERS}`;
const QWEN2 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${AFTER_NUMBERS}`;

interface PreTokenizer {
  /** Absent: GPT-2's own. */
  readonly pattern?: string;
  readonly normalizer?: object;
  readonly ignoreMerges?: boolean;
}

/** By `tokenizer.ggml.pre`. */
const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  'gpt-2': {},
  'llama-bpe': { pattern: LLAMA3, ignoreMerges: true },
  llama3: { pattern: LLAMA3, ignoreMerges: true },
  'llama-v3': { pattern: LLAMA3, ignoreMerges: true },
  qwen2: { pattern: QWEN2, normalizer: { type: 'NFC' } },
};

/** `tokenizer.ggml.token_type`. */
const CONTROL = 3;
const USER_DEFINED = 4;

/** @throws MlxkError `not_implemented` / `tokenizer_unsupported`, `validation_error` / `gguf_invalid`. */
export function tokenizerFiles(metadata: Metadata, label: string): TextFiles {
  const kind = metadata.get('tokenizer.ggml.model');
  const tokens = strings(metadata, 'tokens', label);
  const tokenizer =
    kind === 'gpt2'
      ? byteLevel(metadata, tokens, label)
      : kind === 'llama'
        ? sentencePiece(metadata, tokens, label)
        : undefined;
  if (tokenizer === undefined) {
    throw unsupported(
      label,
      kind === undefined ? 'no tokenizer' : `a tokenizer of the kind ${JSON.stringify(kind)}`,
    );
  }
  const template = metadata.get('tokenizer.chat_template');
  const name = (key: string): object => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    const token = typeof id === 'number' ? tokens[id] : undefined;
    return token === undefined ? {} : { [key === 'padding' ? 'pad_token' : `${key}_token`]: token };
  };
  const config = {
    ...(typeof template === 'string' && { chat_template: template }),
    ...name('bos'),
    ...name('eos'),
    ...name('padding'),
    ...name('unknown'),
    add_bos_token: addsBos(metadata, kind === 'llama'),
    add_eos_token: metadata.get('tokenizer.ggml.add_eos_token') === true,
    clean_up_tokenization_spaces: false,
    tokenizer_class: 'PreTrainedTokenizerFast',
  };
  return {
    'tokenizer.json': JSON.stringify(tokenizer),
    'tokenizer_config.json': `${JSON.stringify(config, null, 2)}\n`,
  };
}

function byteLevel(metadata: Metadata, tokens: readonly string[], label: string): object {
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'gpt-2';
  const known =
    typeof pre === 'string' && Object.hasOwn(PRE_TOKENIZERS, pre) ? PRE_TOKENIZERS[pre] : undefined;
  if (known === undefined) throw unsupported(label, `the pre-tokenizer ${JSON.stringify(pre)}`);
  const byteLevelWith = (useRegex: boolean): object => ({
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: useRegex,
  });
  const { pattern } = known;
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
  return tokenizer(metadata, tokens, label, false, {
    normalizer: known.normalizer ?? null,
    pre_tokenizer:
      pattern === undefined
        ? byteLevelWith(true)
        : { type: 'Sequence', pretokenizers: [split, byteLevelWith(false)] },
    decoder: byteLevelWith(true),
    model: {
      type: 'BPE',
      vocab: vocabulary(tokens),
      merges: strings(metadata, 'merges', label),
      byte_fallback: false,
      fuse_unk: false,
      ignore_merges: known.ignoreMerges ?? false,
    },
  });
}

function sentencePiece(metadata: Metadata, tokens: readonly string[], label: string): object {
  const scores = metadata.get('tokenizer.ggml.scores');
  if (
    !Array.isArray(scores) ||
    scores.length !== tokens.length ||
    !scores.every((s) => typeof s === 'number')
  ) {
    throw invalid(label, 'scores', 'has not one number a token');
  }
  const prefixed = metadata.get('tokenizer.ggml.add_space_prefix') !== false;
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const unknown = metadata.get('tokenizer.ggml.unknown_token_id') ?? 0;
  return tokenizer(metadata, tokens, label, true, {
    normalizer: prefixed
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] }
      : spaces,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab: vocabulary(tokens),
      merges: mergesOf(tokens, scores),
      unk_token: tokens[Number(unknown)] ?? null,
      byte_fallback: true,
      fuse_unk: true,
      ignore_merges: false,
    },
  });
}

/**
 * The merges behind SentencePiece's scores: every way to split a token into two, those of the best token first
 * (transformers' `generate_merges`).
 */
function mergesOf(tokens: readonly string[], scores: readonly GgufValue[]): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const found: { left: string; right: string; score: number; order: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    const characters = Array.from(token);
    let left = '';
    const local: { left: string; right: string; leftId: number; rightId: number }[] = [];
    for (const character of characters.slice(0, -1)) {
      left += character;
      const right = token.slice(left.length);
      const [leftId, rightId] = [ids.get(left), ids.get(right)];
      if (leftId !== undefined && rightId !== undefined)
        local.push({ left, right, leftId, rightId });
    }
    local.sort((a, b) => a.leftId - b.leftId || a.rightId - b.rightId);
    for (const pair of local) {
      found.push({ ...pair, score: Number(scores[id]), order: found.length });
    }
  }
  const length = (text: string): number => Array.from(text).length;
  found.sort(
    (a, b) =>
      b.score - a.score ||
      length(b.left) - length(a.left) ||
      length(b.right) - length(a.right) ||
      a.order - b.order,
  );
  return found.map(({ left, right }) => [left, right]);
}

function tokenizer(
  metadata: Metadata,
  tokens: readonly string[],
  label: string,
  bosByDefault: boolean,
  parts: object,
): object {
  const types = metadata.get('tokenizer.ggml.token_type');
  if (types !== undefined && (!Array.isArray(types) || types.length !== tokens.length)) {
    throw invalid(label, 'token_type', 'has not one entry a token');
  }
  const typeOf = (id: number): unknown => (Array.isArray(types) ? types[id] : undefined);
  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id);
    if (type !== CONTROL && type !== USER_DEFINED) return [];
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...plain, special: type === CONTROL }];
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    post_processor: postProcessor(metadata, tokens, bosByDefault),
    ...parts,
  };
}

function addsBos(metadata: Metadata, byDefault: boolean): boolean {
  const stated = metadata.get('tokenizer.ggml.add_bos_token');
  return typeof stated === 'boolean'
    ? stated
    : byDefault || metadata.get('tokenizer.ggml.pre') === 'llama-bpe';
}

/** Puts the first token before a text, where the model wants that. */
function postProcessor(
  metadata: Metadata,
  tokens: readonly string[],
  bosByDefault: boolean,
): object | null {
  const id = metadata.get('tokenizer.ggml.bos_token_id');
  const bos = typeof id === 'number' ? tokens[id] : undefined;
  if (bos === undefined || !addsBos(metadata, bosByDefault)) return null;
  const special = { SpecialToken: { id: bos, type_id: 0 } };
  const sequence = (name: string): object => ({
    Sequence: { id: name, type_id: name === 'A' ? 0 : 1 },
  });
  return {
    type: 'TemplateProcessing',
    single: [special, sequence('A')],
    pair: [special, sequence('A'), special, sequence('B')],
    special_tokens: { [bos]: { id: bos, ids: [id], tokens: [bos] } },
  };
}

function vocabulary(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

function strings(metadata: Metadata, key: string, label: string): string[] {
  const value = metadata.get(`tokenizer.ggml.${key}`);
  if (value === undefined && key === 'tokens') throw unsupported(label, 'no tokenizer');
  if (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((entry) => typeof entry === 'string')
  ) {
    return [...(value as readonly string[])];
  }
  throw invalid(label, key, 'is no list of texts');
}

function unsupported(label: string, what: string): MlxkError {
  return new MlxkError(
    'not_implemented',
    `${label} has ${what}, which cannot be converted. Put tokenizer.json and tokenizer_config.json of the original ` +
      'model beside the file, in a folder of its own, and give that folder as the source',
    { reason: 'tokenizer_unsupported', detail: { file: label } },
  );
}

function invalid(label: string, key: string, why: string): MlxkError {
  return new MlxkError('validation_error', `${label}: tokenizer.ggml.${key} ${why}`, {
    reason: 'gguf_invalid',
    detail: { file: label },
  });
}
