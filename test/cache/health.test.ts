import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

import { health } from '../../lib/cache/health.js';
import { CHAT_MODEL, type Files, writeFiles } from '../helpers/fixture-cache.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

afterEach(removeTemporaryFolders);

function folderWith(files: Files): string {
  const folder = temporaryFolder();
  writeFiles(folder, files);
  return folder;
}

const CONFIG = { 'config.json': { model_type: 'llama' } };
const INDEX = 'model.safetensors.index.json';
const shard = (number: number, total = 3): string =>
  `model-0000${number}-of-0000${total}.safetensors`;
const index = (...files: string[]): object => ({
  weight_map: Object.fromEntries(files.map((file, i) => [`tensor.${i}`, file])),
});
const POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n';

describe('files are whole', () => {
  it.each<[string, Files, string]>([
    ['one weight file', CHAT_MODEL, 'Model is healthy'],
    [
      'all files of an index',
      {
        ...CONFIG,
        [INDEX]: index(shard(1), shard(2), shard(3)),
        [shard(1)]: 'x',
        [shard(2)]: 'x',
        [shard(3)]: 'x',
      },
      'Multi-file model complete',
    ],
    [
      'all files of an index of PyTorch',
      {
        ...CONFIG,
        'pytorch_model.bin.index.json': index('a.bin', 'b.bin'),
        'a.bin': 'x',
        'b.bin': 'x',
      },
      'Multi-file model complete',
    ],
    [
      'an index beats the numbers in names',
      { ...CONFIG, [INDEX]: index(shard(1)), [shard(1)]: 'x' },
      'Multi-file model complete',
    ],
    ['GGUF', { ...CONFIG, 'model.gguf': 'x' }, 'Model is healthy'],
    ['weights in a folder below', { ...CONFIG, 'sub/model.safetensors': 'x' }, 'Model is healthy'],
    [
      'a vision model with a processor',
      { 'config.json': { model_type: 'llava' }, 'm.safetensors': 'x', 'processor_config.json': {} },
      'Model is healthy',
    ],
    ['no tokenizer at all', { ...CONFIG, 'model.safetensors': 'x' }, 'Model is healthy'],
  ])('with %s', (_, files, reason) => {
    expect(health(folderWith(files))).toEqual({ healthy: true, reason });
  });
});

describe('files are not whole', () => {
  it.each<[string, Files, string | RegExp]>([
    ['no config.json', { 'model.safetensors': 'x' }, 'config.json missing'],
    ['an empty config.json', { 'config.json': '' }, 'config.json contains invalid JSON'],
    ['a broken config.json', { 'config.json': '{' }, 'config.json contains invalid JSON'],
    ['an empty object in config.json', { 'config.json': {} }, 'config.json is empty or invalid'],
    ['a list in config.json', { 'config.json': '[1]' }, 'config.json is empty or invalid'],
    ['no weights', CONFIG, 'No model weights found'],
    [
      'no shard of an index',
      { ...CONFIG, [INDEX]: index(shard(1), shard(2)) },
      `Missing weight shards: ${shard(1)}, ${shard(2)}`,
    ],
    [
      'an interrupted download',
      { ...CONFIG, [INDEX]: index(shard(1), shard(2), shard(3)), [shard(2)]: 'x' },
      `Missing weight shards: ${shard(1)}, ${shard(3)}`,
    ],
    [
      'an index of other files',
      { ...CONFIG, [INDEX]: index('a.safetensors'), 'model.safetensors': 'x' },
      /^Index\/shard mismatch \(mlx-vlm #624\).*--repair-index/,
    ],
    ['a broken index', { ...CONFIG, [INDEX]: '{', 'model.safetensors': 'x' }, 'Invalid index file'],
    [
      'an index without map',
      { ...CONFIG, [INDEX]: { weight_map: {} }, 'model.safetensors': 'x' },
      'Empty or invalid weight_map in index',
    ],
    [
      'an index that maps to numbers',
      { ...CONFIG, [INDEX]: { weight_map: { a: 1 } }, 'model.safetensors': 'x' },
      'Empty or invalid weight_map in index',
    ],
    [
      'an empty file of an index',
      { ...CONFIG, [INDEX]: index(shard(1)), [shard(1)]: '' },
      `Empty weight shards: ${shard(1)}`,
    ],
    [
      'a pointer in an index',
      { ...CONFIG, [INDEX]: index(shard(1)), [shard(1)]: POINTER },
      `LFS pointers instead of files: ${shard(1)}`,
    ],
    [
      'two totals in names',
      { ...CONFIG, [shard(1)]: 'x', [shard(2, 4)]: 'x' },
      'Inconsistent shard totals detected',
    ],
    [
      'a number missing in names',
      { ...CONFIG, [shard(1)]: 'x', [shard(3)]: 'x' },
      'Missing shards by pattern: 2/3 present',
    ],
    [
      'an empty shard',
      { ...CONFIG, [shard(1, 2)]: 'x', [shard(2, 2)]: '' },
      `Empty shards: ${shard(2, 2)}`,
    ],
    [
      'all shards and no index',
      { ...CONFIG, [shard(1, 2)]: 'x', [shard(2, 2)]: 'x' },
      'Safetensors index missing for sharded model',
    ],
    [
      'a partial file',
      { ...CONFIG, 'model.safetensors': 'x', 'x.partial': 'x' },
      'Partial download marker detected',
    ],
    [
      'empty weights',
      { ...CONFIG, 'model.safetensors': '' },
      'Empty weight files: model.safetensors',
    ],
    [
      'a pointer',
      { ...CONFIG, 'model.safetensors': POINTER },
      'LFS pointers instead of files: model.safetensors',
    ],
    [
      'a vision model without processor',
      { 'config.json': { model_type: 'llava' }, 'm.safetensors': 'x' },
      'Vision model missing preprocessor_config.json or processor_config.json',
    ],
    [
      'a broken processor',
      {
        'config.json': { model_type: 'llava' },
        'm.safetensors': 'x',
        'processor_config.json': '{',
      },
      'processor_config.json invalid JSON',
    ],
    [
      'a processor that is no object',
      {
        'config.json': { model_type: 'llava' },
        'm.safetensors': 'x',
        'processor_config.json': '[]',
      },
      'processor_config.json invalid',
    ],
    [
      'half a tokenizer',
      { ...CONFIG, 'm.safetensors': 'x', 'tokenizer_config.json': {} },
      'tokenizer_config.json present but tokenizer.json missing',
    ],
    [
      'a broken tokenizer_config.json',
      { ...CONFIG, 'm.safetensors': 'x', 'tokenizer_config.json': '{', 'tokenizer.json': {} },
      'tokenizer_config.json contains invalid JSON',
    ],
  ])('with %s', (_, files, reason) => {
    const found = health(folderWith(files));
    expect(found.healthy).toBe(false);
    expect(found.reason).toMatch(
      reason instanceof RegExp ? reason : new RegExp(`^${escaped(reason)}$`),
    );
  });

  it('without a folder', () => {
    expect(health('/nowhere/at/all')).toEqual({
      healthy: false,
      reason: 'Model path does not exist',
    });
  });

  it('with links that lead nowhere', () => {
    const folder = folderWith(CONFIG);
    symlinkSync('../blobs/gone', path.join(folder, 'model.safetensors'));
    expect(health(folder).reason).toBe('No model weights found');
  });
});

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

describe('whatever a folder holds', () => {
  it('an index that points out of the folder is not followed', () => {
    const outside = temporaryFolder();
    writeFileSync(path.join(outside, 'x.safetensors'), 'x');
    const escape = path.join('..', path.basename(outside), 'x.safetensors');
    const folder = folderWith({ ...CONFIG, [INDEX]: index(escape) });
    expect(health(folder).reason).toBe(`Missing weight shards: ${escape}`);
  });

  it('a JSON file of two gigabytes is not read', () => {
    const folder = folderWith({ ...CONFIG, 'model.safetensors': 'x', [INDEX]: '' });
    truncateSync(path.join(folder, INDEX), 2 ** 31);
    expect(health(folder).reason).toBe('Invalid index file');
    truncateSync(path.join(folder, 'config.json'), 2 ** 31);
    expect(health(folder).reason).toBe('config.json contains invalid JSON');
  });

  it('a link to a folder above is not walked', () => {
    const folder = folderWith(CHAT_MODEL);
    symlinkSync('..', path.join(folder, 'up'));
    mkdirSync(path.join(folder, 'sub'));
    symlinkSync('../sub', path.join(folder, 'sub', 'loop'));
    expect(health(folder).healthy).toBe(true);
  });

  const NAMES = [
    'config.json',
    INDEX,
    'tokenizer_config.json',
    'preprocessor_config.json',
    'README.md',
  ];

  it('is answered with a reason and never with a throw', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom(...NAMES, 'model.safetensors', shard(1), 'tokenizer.json'),
          fc.oneof(
            fc.string(),
            fc.json(),
            fc.constantFrom('', 'null', '[]', '0', '{"weight_map":[]}'),
          ),
        ),
        (files) => {
          const { healthy, reason } = health(folderWith(files));
          expect(typeof healthy).toBe('boolean');
          expect(reason).not.toBe('');
          removeTemporaryFolders();
        },
      ),
      { numRuns: 150 },
    );
  });
});
