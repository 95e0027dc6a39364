import { Worker } from 'node:worker_threads';

import { describe, expect, it } from 'vitest';

import { addon } from '../../lib/binding.js';
import { SPECIAL, tokenizerJson } from '../helpers/chat-model.js';

const bytes = (json: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(json));
const tokenizer = new (addon().Tokenizer)(bytes(tokenizerJson()));
const END = SPECIAL['<|im_end|>'];

function errorOf(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('the native tokenizer', () => {
  it('encodes, decodes and names tokens', () => {
    const text = 'Grüße, 世界 🙂\0';
    const ids = tokenizer.encode(text, false);
    expect(ids).toBeInstanceOf(Uint32Array);
    expect(tokenizer.decode(ids, false)).toBe(text);
    expect(tokenizer.tokenToId('<|im_end|>')).toBe(END);
    expect(tokenizer.idToToken(END)).toBe('<|im_end|>');
    expect(tokenizer.idToToken(4_000_000_000)).toBeUndefined();
    expect(tokenizer.tokenToId('nowhere')).toBeUndefined();
    expect(tokenizer.vocabSize).toBe(Math.max(...Object.values(SPECIAL)) + 1);
    expect(tokenizer.specialTokens()).toEqual(
      Object.entries(SPECIAL).map(([content, id]) => ({ id, content })),
    );
  });

  it('takes marked spellings of special tokens as text', () => {
    const text = 'é🙂<|im_end|><|im_end|>';
    const count = (plain?: number[]) =>
      tokenizer.encode(text, false, plain && Uint32Array.from(plain)).filter((id) => id === END)
        .length;
    expect(count()).toBe(2);
    expect(count([3, 13])).toBe(1);
    expect(count([3, 13, 13, 23])).toBe(0);
    expect(count([0, 3])).toBe(2);
    const ids = tokenizer.encode(text, false, Uint32Array.of(0, 23));
    expect(tokenizer.decode(ids, true)).toBe(text);
  });

  it('encodes off the thread what it encodes on it', async () => {
    const text = 'word 🙂 <|im_end|> '.repeat(1000);
    const plain = Uint32Array.of(8, 18);
    const all = await Promise.all([
      tokenizer.encodeAsync(text, true, plain),
      tokenizer.encodeAsync(text, false),
    ]);
    expect(all).toEqual([tokenizer.encode(text, true, plain), tokenizer.encode(text, false)]);
    await expect(tokenizer.encodeAsync('a\ud800', false)).rejects.toMatchObject({
      code: 'validation_error',
      reason: 'invalid_text',
    });
  });

  it.each<[string, Parameters<typeof tokenizer.encode>, string]>([
    ['half a pair', ['\ud83d', false], 'invalid_text'],
    ['half a pair the other way', ['\ude00a', false], 'invalid_text'],
    ['an odd number of offsets', ['abc', false, Uint32Array.of(1)], 'invalid_range'],
    ['an empty range', ['abc', false, Uint32Array.of(1, 1)], 'invalid_range'],
    ['a range past the end', ['abc', false, Uint32Array.of(1, 4)], 'invalid_range'],
    ['ranges out of order', ['abc', false, Uint32Array.of(2, 3, 0, 1)], 'invalid_range'],
    ['a range that cuts a character', ['🙂', false, Uint32Array.of(0, 1)], 'invalid_range'],
  ])('refuses %s', (_, args, reason) => {
    expect(() => tokenizer.encode(...args)).toThrow(
      expect.objectContaining({ code: 'validation_error', reason }),
    );
  });

  it.each([
    ['a file that is no JSON', new Uint8Array(8)],
    ['an empty object', bytes({})],
    ['an id given twice', bytes(tokenizerJson({ ...SPECIAL, '<|im_end|>': 0 }))],
    ['a negative id', bytes(tokenizerJson({ ...SPECIAL, '<|im_end|>': -1 }))],
    ['an id of 2^31', bytes(tokenizerJson({ ...SPECIAL, '<|im_end|>': 2 ** 31 }))],
  ])('refuses %s', (_, json) => {
    expect(() => new (addon().Tokenizer)(json)).toThrow(
      expect.objectContaining({ code: 'validation_error', reason: 'tokenizer_invalid' }),
    );
  });

  it('answers wrong types and foreign receivers with a TypeError', () => {
    const { Tokenizer, Detokenizer, ChatTemplate } = addon();
    const loose = tokenizer as unknown as Record<string, (...args: unknown[]) => unknown>;
    const foreign = new ChatTemplate('x', { fuel: 1, maxOutputBytes: 1 });
    const prototype = Tokenizer.prototype as object;
    const apply = (receiver: unknown): unknown =>
      Reflect.apply(Reflect.get(prototype, 'encode') as () => unknown, receiver, [
        'a',
        false,
      ]) as unknown;
    for (const act of [
      () => loose['encode']?.(5, false),
      () => loose['encode']?.('a', 'yes'),
      () => loose['encode']?.('a', false, [0, 1]),
      () => loose['encode']?.('a', false, new Int32Array(2)),
      () => loose['encodeAsync']?.(undefined, false),
      () => loose['decode']?.([1], false),
      () => loose['decode']?.(Uint32Array.of(1)),
      () => loose['idToToken']?.(-1),
      () => loose['idToToken']?.(1.5),
      () => loose['idToToken']?.(Number.NaN),
      () => loose['idToToken']?.(2 ** 32),
      () => loose['tokenToId']?.(7),
      () => new Tokenizer('{}' as never),
      () => new Tokenizer(new Uint16Array(2) as never),
      () => (Tokenizer as unknown as (json: Uint8Array) => unknown)(new Uint8Array(2)),
      () => apply(foreign),
      () => apply({}),
      () => apply(Object.create(prototype)),
      () => new Detokenizer(foreign as never, true),
      () => new Detokenizer(Object.create(tokenizer) as never, true),
      () => new Detokenizer(tokenizer, 1 as never),
    ]) {
      expect(errorOf(act), act.toString()).toBeInstanceOf(TypeError);
    }
  });

  it('lets a worker end in the middle of an encoding', async () => {
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData.binding).then(({ addon }) => {
        const tokenizer = new (addon().Tokenizer)(workerData.json);
        for (let i = 0; i < 4; i++) tokenizer.encodeAsync('word '.repeat(50_000), false);
        parentPort.postMessage('busy');
      });`;
    const binding = new URL('../../dist/binding.js', import.meta.url).href;
    const worker = new Worker(source, {
      eval: true,
      workerData: { binding, json: bytes(tokenizerJson()) },
    });
    await new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
    });
    expect(await worker.terminate()).toBe(1);
    expect(tokenizer.encode('still here', false).length).toBe(10);
  });
});

describe('the native detokenizer', () => {
  const detokenizer = () => new (addon().Detokenizer)(tokenizer, true);

  it('gives whole characters and loses none', () => {
    const text = 'a🙂é世<|im_end|>b'.repeat(20);
    const stream = detokenizer();
    const pieces = Array.from(tokenizer.encode(text, true), (id) => stream.push(id));
    expect(pieces.join('') + stream.finish()).toBe(text.replaceAll('<|im_end|>', ''));
    expect(pieces).toContain('🙂');
    expect(pieces.every((piece) => !piece.includes('\ufffd'))).toBe(true);
  });

  it('replaces a character that stays broken', () => {
    const stream = detokenizer();
    const [first, second] = tokenizer.encode('🙂', false);
    expect(stream.push(first ?? 0)).toBe('');
    expect(stream.push(second ?? 0)).toBe('');
    expect(stream.finish()).toBe('\ufffd');
    expect(() => stream.push(65)).toThrow(
      expect.objectContaining({ code: 'validation_error', reason: 'detokenizer_finished' }),
    );
  });

  it('answers what is no id with a TypeError', () => {
    for (const id of [-1, 0.5, Number.NaN, 2 ** 32, '1', undefined]) {
      expect(() => detokenizer().push(id as never)).toThrow(TypeError);
    }
    expect(detokenizer().push(2 ** 32 - 1)).toBe('');
  });
});
