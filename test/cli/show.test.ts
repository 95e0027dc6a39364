import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { pinContentHash } from '../../lib/workspace/content-hash.js';
import { Sentinel } from '../../lib/workspace/sentinel.js';
import { CHAT_MODEL, FixtureCache, writeFiles } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

let cache: FixtureCache;

beforeEach(() => {
  cache = new FixtureCache();
});
afterEach(removeTemporaryFolders);

async function nameOf(spec: string, cwd?: string): Promise<unknown> {
  const { code, data } = await cache.json(['show', spec], cwd === undefined ? {} : { cwd });
  expect(code).toBe(0);
  return (data!.model as { name: string }).name;
}

async function errorOf(spec: string, cwd?: string): Promise<Record<string, unknown>> {
  const { code, status, data, error } = await cache.json(
    ['show', spec],
    cwd === undefined ? {} : { cwd },
  );
  expect({ code, status, data }).toEqual({ code: 1, status: 'error', data: null });
  return error!;
}

describe('a model is shown by', () => {
  it('its id, a part of it, or the short name under the usual owner', async () => {
    cache.add('mlx-community/Phi-3-mini', CHAT_MODEL);
    cache.add('mlx-community/Phi-3-mini-4bit', CHAT_MODEL);
    cache.add('org/qwen', CHAT_MODEL);
    expect(await nameOf('org/qwen')).toBe('org/qwen');
    expect(await nameOf('QW')).toBe('org/qwen');
    expect(await nameOf('Phi-3-mini')).toBe('mlx-community/Phi-3-mini');
    expect((await errorOf('Phi-4')).type).toBe('model_not_found');
  });

  it('the first digits of a revision, whose facts are shown', async () => {
    const old = `abc${'0'.repeat(37)}`;
    cache.add('org/model', {}, { commit: old, modified: 1000 });
    cache.add('org/model', CHAT_MODEL, { commit: 'b'.repeat(40), modified: 2000 });
    const { data } = await cache.json(['show', 'org/model@abc']);
    expect(data!.model).toMatchObject({ hash: old, health: 'unhealthy' });
    expect((await cache.json(['show', 'model'])).data!.model).toMatchObject({ health: 'healthy' });
    expect((await errorOf('org/model@ccc')).type).toBe('model_not_found');
    expect((await errorOf('org/model@ccc')).available_hashes).toContain(old);
  });

  it('the path of a workspace; a bare name is none', async () => {
    const home = cache.workspaces(['dir']);
    cache.env.MLXK_WORKSPACE_HOME = '';
    writeFiles(path.join(home, 'empty'), { 'readme.txt': 'x' });
    expect(await nameOf('./dir', home)).toBe(path.join(home, 'dir'));
    expect((await errorOf('dir', home)).type).toBe('model_not_found');
    expect((await errorOf('./empty', home)).type).toBe('model_not_found');
    cache.add('org/dir-in-cache', CHAT_MODEL);
    expect(await nameOf('dir', home)).toBe('org/dir-in-cache');
  });

  it('its name in the workspace home, which has to be clear', async () => {
    const home = cache.workspaces(['gemma', 'gemma-b', 'llama']);
    cache.add('org/llama-c', CHAT_MODEL);
    expect(await nameOf('gemma')).toBe(path.join(home, 'gemma'));
    expect(await nameOf('gemma-')).toBe(path.join(home, 'gemma-b'));
    expect(await errorOf('lla')).toMatchObject({
      type: 'ambiguous_match',
      matches: ['llama', 'org/llama-c'],
    });
  });

  it('the name of the built-in one', async () => {
    const { data } = await cache.json(['show', 'builtin']);
    expect(data!.model).toMatchObject({
      name: 'builtin',
      framework: 'MLX',
      health: 'healthy',
      runtime_compatible: true,
    });
  });
});

describe('an unclear name', () => {
  it('is refused with every candidate', async () => {
    for (const id of ['org/one-a', 'org/one-b']) cache.add(id, CHAT_MODEL);
    expect(await errorOf('one')).toMatchObject({
      type: 'ambiguous_match',
      message: expect.stringContaining('org/one-a, org/one-b') as string,
      matches: ['org/one-a', 'org/one-b'],
    });
    expect(await cache.run(['show', 'one'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: 'show: Error: Ambiguous model specification "one". Could be: org/one-a, org/one-b\n',
    });
  });
});

describe('the details', () => {
  const model = {
    ...CHAT_MODEL,
    'config.json': {
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      max_position_embeddings: 4096,
      vocab_size: 32_000,
      hidden_size: 64,
      num_attention_heads: 4,
      num_hidden_layers: 2,
      quantization: { bits: 4, group_size: 64 },
      quantization_config: { bits: 4 },
    },
    'README.md': '# model',
    'sub/other.txt': 'x',
    'vocab.json': {},
  };

  beforeEach(() => {
    cache.add('org/model', model);
  });

  it('are metadata', async () => {
    const { data } = await cache.json(['show', 'model']);
    expect(data!.metadata).toEqual({
      model_type: 'llama',
      architecture: 'LlamaForCausalLM',
      quantization: '4bit',
      context_length: 4096,
      vocab_size: 32_000,
      hidden_size: 64,
      num_attention_heads: 4,
      num_hidden_layers: 2,
    });
    expect(data).not.toHaveProperty('files');
    expect(data).not.toHaveProperty('config');
    expect(data!.model).toMatchObject({ quantization: { bits: 4, group_size: 64 } });
  });

  it.each([[['--files']], [['--files', '--config']]])('are files with %j', async (flags) => {
    const { data } = await cache.json(['show', 'model', ...flags]);
    expect(data!.metadata).toBeNull();
    expect(data).not.toHaveProperty('config');
    expect(data!.files).toEqual([
      { name: 'README.md', size: '7B', type: 'readme' },
      { name: 'config.json', size: expect.stringMatching(/B$/) as string, type: 'config' },
      { name: 'model.safetensors', size: '7B', type: 'weights' },
      { name: 'other.txt', size: '1B', type: 'other' },
      { name: 'tokenizer.json', size: '2B', type: 'tokenizer' },
      {
        name: 'tokenizer_config.json',
        size: expect.stringMatching(/B$/) as string,
        type: 'tokenizer',
      },
      { name: 'vocab.json', size: '2B', type: 'config' },
    ]);
  });

  it('are config.json with --config', async () => {
    const { data } = await cache.json(['show', 'model', '--config']);
    expect(data).toMatchObject({ metadata: null, config: model['config.json'] });
    expect(data).not.toHaveProperty('files');
  });

  it('are null where there are none', async () => {
    cache.add('org/broken', { 'config.json': '{' });
    expect((await cache.json(['show', 'broken'])).data!.metadata).toBeNull();
    expect((await cache.json(['show', 'broken', '--config'])).data!.config).toBeNull();
  });

  it('are shown to a person', async () => {
    const { stdout, stderr } = await cache.run(['show', 'model']);
    expect(stderr).toBe('');
    expect(stdout).toContain('Model: org/model@aaaaaaa\n');
    expect(stdout).toContain('Quantization: 4-bit (group_size=64)\n');
    expect(stdout).toContain('Capabilities: text-generation, chat\n');
    expect(stdout).toContain('\nMetadata:\n  model_type: llama\n');
    expect((await cache.run(['show', 'model', '--files'])).stdout).toContain(
      '\nFiles:\n  - README.md (readme, 7B)\n',
    );
    cache.add('org/gguf', { 'config.json': { model_type: 'llama' }, 'm.gguf': 'x' });
    const other = await cache.run(['show', 'gguf']);
    expect(other.stdout).toContain('Health: healthy (files OK, runtime incompatible)\n');
    expect(other.stdout).toContain('Reason: Incompatible framework: GGUF\n');
  });

  it('of strangers are escaped', async () => {
    cache.add('org/evil', { 'config.json': { model_type: 'x\u001b]0;title\u0007\nForged: line' } });
    const { stdout } = await cache.run(['show', 'evil']);
    expect(stdout).toContain('model_type: x\\u001b]0;title\\u0007\\u000aForged: line\n');
    expect(stdout).not.toContain('\u001b');
  });
});

describe('a managed workspace', () => {
  async function managed(): Promise<string> {
    // Eight bytes of length and an empty header: the hash of a workspace reads headers.
    const safetensors = Buffer.from('\u0002\0\0\0\0\0\0\0{}');
    const files = { ...CHAT_MODEL, 'model.safetensors': safetensors };
    const folder = path.join(cache.workspaces(['mine'], files), 'mine');
    await Sentinel.create({
      operation: 'convert',
      source_repo: 'org/source',
      source_revision: null,
      quantization: { bits: 8, group_size: 64 },
    }).write(folder);
    await pinContentHash(folder);
    return folder;
  }

  it('tells where it came from and whether it changed', async () => {
    const folder = await managed();
    const { data } = await cache.json(['show', folder]);
    expect(data!.model).toMatchObject({
      name: folder,
      cached: false,
      origin: 'org/source',
      content_hash: expect.stringMatching(/^sha256:/) as string,
      clean: true,
    });
    expect(data!.workspace_metadata).toMatchObject({
      managed: true,
      quantization: { bits: 8, group_size: 64 },
    });
    expect(data!.workspace_metadata).not.toHaveProperty('file_index');
    const { stdout } = await cache.run(['show', 'mine']);
    expect(stdout).toMatch(
      /Quantization: 4-bit \(group_size=64\) \(requested: 8-bit \(group_size=64\)\)/,
    );
    expect(stdout).toMatch(/Source: org\/source\n {2}Operation: convert\n/);
    expect(stdout).toMatch(/Clean: ✓\n {2}Content Hash: sha256:.{16}\.\.\.\n/);
  });

  it('is pinned anew when asked', async () => {
    const folder = await managed();
    writeFiles(folder, { 'added.txt': 'x' });
    expect((await cache.json(['show', 'mine'])).data!.model).toMatchObject({ clean: false });
    const { data } = await cache.json(['show', 'mine', '--recalc-hash']);
    expect(data).toMatchObject({ hash_updated: true, model: { clean: true } });
    cache.add('org/model', CHAT_MODEL);
    const cached = await cache.json(['show', 'org/model', '--recalc-hash']);
    expect(cached.data).not.toHaveProperty('hash_updated');
  });
});
