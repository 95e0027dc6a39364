import { statSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { list } from '../../lib/cache/list.js';
import type { ModelEntry } from '../../lib/cache/types.js';
import { modelObject } from '../../lib/contracts/model-object.js';
import { CHAT_MODEL, COMMIT, type Files, FixtureCache } from '../helpers/fixture-cache.js';
import { violations } from '../helpers/schemas.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let cache: FixtureCache;

beforeEach(() => {
  cache = new FixtureCache();
});
afterEach(removeTemporaryFolders);

/** What the list tells of one model with these files. */
async function entryOf(files: Files, name = 'org/model'): Promise<ModelEntry> {
  cache.add(name, files);
  const entries = await list('', cache.env);
  const entry = entries.find((candidate) => candidate.name === name)!;
  expect(violations(modelObject(entry), 'model-object.json')).toEqual([]);
  return entry;
}

const WEIGHTS = { 'model.safetensors': 'weights' };
const MLX = { quantization: { bits: 4, group_size: 64 } };
const config = (members: object): Files => ({ 'config.json': { ...MLX, ...members }, ...WEIGHTS });

describe('the model object', () => {
  it('has every fact of a chat model', async () => {
    const entry = await entryOf(CHAT_MODEL);
    const folder = path.join(cache.repository('org/model'), 'snapshots', COMMIT);
    expect(modelObject(entry)).toEqual({
      name: 'org/model',
      hash: COMMIT,
      size_bytes: Object.values(CHAT_MODEL)
        .map((content) => (typeof content === 'string' ? content : JSON.stringify(content)).length)
        .reduce((sum, length) => sum + length, 0),
      last_modified: `${new Date(statSync(folder).mtimeMs).toISOString().slice(0, 19)}Z`,
      framework: 'MLX',
      model_type: 'chat',
      capabilities: ['text-generation', 'chat'],
      health: 'healthy',
      runtime_compatible: true,
      reason: null,
      cached: true,
      origin: null,
      content_hash: null,
      hash_modified: null,
      clean: null,
    });
  });

  it('tells the time in UTC', async () => {
    cache.add('org/model', CHAT_MODEL, { modified: 1_700_000_000 });
    const [entry] = await list('', cache.env);
    expect(entry!.lastModified).toBe('2023-11-14T22:13:20Z');
  });
});

describe('the framework', () => {
  it.each([
    ['library_name', '---\nlibrary_name: mlx\n---\nText'],
    ['library_name in quotes and capitals', '---\nlicense: mit\nlibrary_name: "MLX"\n---\n'],
    ['tags in brackets', '---\ntags: [chat, "mlx"]\n---\n'],
    ['tags with dashes', '---\ntags:\n- chat\n- mlx\nlicense: mit\n---\n'],
    ['indented tags and CRLF', '---\r\ntags:\r\n  - MLX\r\n---\r\n'],
  ])('is MLX by the %s of the model card', async (_, readme) => {
    const entry = await entryOf({
      'config.json': { model_type: 'llama' },
      'README.md': readme,
      ...WEIGHTS,
    });
    expect(entry.framework).toBe('MLX');
  });

  it.each([
    ['prose', 'We made this with mlx.\n---\ntags: [mlx]\n---\n'],
    ['other tags', '---\ntags: [mlx-like, gguf]\n---\n'],
    ['a list of something else', '---\ntags:\n- chat\nlicenses:\n- mlx\n---\n'],
    ['an open front matter', '---\nlibrary_name: mlx\n'],
  ])('is not MLX by %s', async (_, readme) => {
    const entry = await entryOf({
      'config.json': { model_type: 'x' },
      'README.md': readme,
      ...WEIGHTS,
    });
    expect(entry.framework).toBe('PyTorch');
  });

  it.each<[string, Files, string]>([
    ['quantization in config.json', config({}), 'MLX'],
    ['a GGUF file', { 'config.json': { a: 1 }, 'model.Q4_0.gguf': 'x' }, 'GGUF'],
    [
      'PyTorch shards',
      { 'config.json': { a: 1 }, 'pytorch_model-00001-of-00002.bin': 'x' },
      'PyTorch',
    ],
    ['safetensors without a mark', { 'config.json': { a: 1 }, ...WEIGHTS }, 'PyTorch'],
    ['nothing', { 'config.json': { a: 1 } }, 'Unknown'],
  ])('is told by %s', async (_, files, framework) => {
    expect((await entryOf(files)).framework).toBe(framework);
  });

  it('is MLX under the usual owner', async () => {
    const entry = await entryOf({ 'config.json': { a: 1 } }, 'mlx-community/any');
    expect(entry.framework).toBe('MLX');
  });
});

describe('type and capabilities', () => {
  const text = ['text-generation'];
  const chat = ['text-generation', 'chat'];
  const tokenizer = { 'tokenizer.json': {} };

  it.each<[string, Files, string, string[]]>([
    ['no template', config({ model_type: 'llama' }), 'base', text],
    [
      'a template in tokenizer_config.json',
      { ...config({}), ...tokenizer, 'tokenizer_config.json': { chat_template: 'x' } },
      'chat',
      chat,
    ],
    [
      'an empty template',
      { ...config({}), ...tokenizer, 'tokenizer_config.json': { chat_template: '' } },
      'base',
      text,
    ],
    [
      'a template in tokenizer.json',
      { ...config({}), 'tokenizer.json': { chat_template: 'x' } },
      'chat',
      chat,
    ],
    [
      'the word in a vocabulary',
      { ...config({}), 'tokenizer.json': { model: { vocab: { '"chat_template"': 1 } } } },
      'base',
      text,
    ],
    ['a template in a file', { ...config({}), 'chat_template.jinja': 'x' }, 'chat', chat],
    ['model_type chat', config({ model_type: 'chat' }), 'chat', chat],
    ['llava', config({ model_type: 'llava' }), 'chat', [...chat, 'vision']],
    ['vision_config', config({ vision_config: { layers: 1 } }), 'base', [...text, 'vision']],
    ['a null vision_config', config({ vision_config: null }), 'base', text],
    ['an empty vision_config', config({ vision_config: {} }), 'base', text],
    ['a null audio_config', config({ audio_config: null }), 'base', text],
    ['audio_config', config({ audio_config: { layers: 1 } }), 'base', [...text, 'audio']],
    ['gemma3n', config({ model_type: 'gemma3n' }), 'base', [...text, 'audio']],
    ['a processor', { ...config({}), 'processor_config.json': {} }, 'base', [...text, 'vision']],
    [
      'a processor that knows the length of sound',
      {
        ...config({ vision_config: { a: 1 } }),
        'processor_config.json': { audio_seq_length: 188 },
      },
      'base',
      [...text, 'vision'],
    ],
    [
      'a preprocessor of frames',
      { ...config({}), 'preprocessor_config.json': { temporal_patch_size: 2 } },
      'base',
      text,
    ],
    [
      'a preprocessor of videos',
      { ...config({}), 'preprocessor_config.json': {}, 'video_preprocessor_config.json': {} },
      'base',
      text,
    ],
    ['whisper', config({ model_type: 'whisper' }), 'audio', ['audio', 'audio-translate-en']],
    ['voxtral', config({ model_type: 'voxtral' }), 'audio', ['audio']],
    ['bert', config({ model_type: 'bert' }), 'embedding', ['embeddings']],
    ['xlm-roberta', config({ model_type: 'xlm-roberta' }), 'embedding', ['embeddings']],
    ['gemma3_text', config({ model_type: 'gemma3_text' }), 'base', text],
  ])('of %s', async (_, files, type, capabilities) => {
    const entry = await entryOf(files);
    expect({ type: entry.modelType, capabilities: entry.capabilities }).toEqual({
      type,
      capabilities,
    });
  });

  it.each([
    ['org/some-Instruct', { model_type: 'llama' }, 'chat', chat],
    ['org/Chatty', { model_type: 'llama' }, 'chat', chat],
    ['org/whisper-tiny.en', { model_type: 'whisper' }, 'audio', ['audio']],
    ['org/whisper-large-v3-turbo', { model_type: 'whisper' }, 'audio', ['audio']],
    ['org/whisper-tiny', { model_type: 'whisper' }, 'audio', ['audio', 'audio-translate-en']],
    ['org/Qwen3-Embedding-0.6B', { model_type: 'qwen3' }, 'embedding', ['embeddings']],
    ['org/Qwen3-0.6B', { model_type: 'qwen3' }, 'base', text],
    ['org/embeddinggemma', { model_type: 'gemma3_text' }, 'base', text],
    [
      'org/x-embed',
      { model_type: 'llama', architectures: ['LlamaForCausalLM'] },
      'embedding',
      ['embeddings'],
    ],
  ])('of the name %s', async (name, members, type, capabilities) => {
    const entry = await entryOf(config(members), name);
    expect({ type: entry.modelType, capabilities: entry.capabilities }).toEqual({
      type,
      capabilities,
    });
  });
});

describe('whether a model runs', () => {
  it.each<[string, Files, boolean, string | null]>([
    ['llama', config({ model_type: 'llama' }), true, null],
    [
      'an unknown type',
      config({ model_type: 'unheard_of' }),
      false,
      "Model type 'unheard_of' not supported",
    ],
    ['no type', config({}), false, 'config.json missing model_type field'],
    [
      'a GGUF',
      { 'config.json': { model_type: 'llama' }, 'm.gguf': 'x' },
      false,
      'Incompatible framework: GGUF',
    ],
    ['a GGUF without config.json', { 'm.gguf': 'x' }, false, 'config.json missing'],
    [
      'old names of weights',
      { 'config.json': { model_type: 'llama', ...MLX }, 'weights.00.safetensors': 'x' },
      false,
      'Legacy format not supported by mlx-lm',
    ],
    [
      'old names of PyTorch',
      { 'config.json': { model_type: 'llama', ...MLX }, 'pytorch_model-00001.safetensors': 'x' },
      false,
      'Legacy format not supported by mlx-lm',
    ],
    [
      'old and new names',
      { ...config({ model_type: 'llama' }), 'weights.00.safetensors': 'x' },
      true,
      null,
    ],
    ['bert', config({ model_type: 'bert' }), true, null],
    [
      'an encoder that is only known',
      config({ model_type: 'xlm-roberta' }),
      false,
      'Embedding encoder not vendored: xlm-roberta — use bge/e5 or Qwen3-Embedding',
    ],
    [
      'pictures',
      { ...config({ model_type: 'mllama' }), 'processor_config.json': {} },
      false,
      "Model type 'mllama' not supported (vision model)",
    ],
    [
      'sound',
      config({ model_type: 'whisper' }),
      false,
      "Model type 'whisper' not supported (audio model)",
    ],
  ])('is told of %s', async (_, files, runs, reason) => {
    const entry = await entryOf(files);
    expect({ runs: entry.runtimeCompatible, reason: entry.reason }).toEqual({ runs, reason });
  });

  it('says nothing of the health of files', async () => {
    const gguf = await entryOf({ 'config.json': { model_type: 'llama' }, 'm.gguf': 'x' });
    expect(gguf.health).toBe('healthy');
    const broken = await entryOf({ 'm.gguf': 'x' }, 'org/broken');
    expect(broken.health).toBe('unhealthy');
  });
});

describe('the snapshot', () => {
  it('is the newest', async () => {
    cache.add('org/model', CHAT_MODEL, { commit: 'b'.repeat(40), modified: 2000 });
    cache.add('org/model', CHAT_MODEL, { commit: 'c'.repeat(40), modified: 1000 });
    const [entry] = await list('', cache.env);
    expect(entry!.hash).toBe('b'.repeat(40));
  });

  it('is the one that main was at, where that is known', async () => {
    cache.add('org/model', CHAT_MODEL, { commit: 'b'.repeat(40), modified: 2000 });
    const main = { main: 'c'.repeat(40) };
    cache.add('org/model', CHAT_MODEL, { commit: 'c'.repeat(40), modified: 1000, refs: main });
    const [entry] = await list('', cache.env);
    expect(entry!.hash).toBe('c'.repeat(40));
  });

  it('has no hash when it is named otherwise', async () => {
    cache.add('org/model', CHAT_MODEL, { commit: 'main' });
    const [entry] = await list('', cache.env);
    expect(entry).toMatchObject({ hash: null, health: 'healthy' });
  });
});
