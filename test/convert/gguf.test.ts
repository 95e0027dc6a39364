import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

import { convert } from '../../lib/convert/convert.js';
import { readHeader } from '../../lib/convert/source.js';
import { parseGguf } from '../../lib/gguf/reader.js';
import { load, MlxkError } from '../../lib/index.js';
import { gguf, metadataOf, referenceModel, type Tensor, type Value } from '../helpers/gguf.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { type Golden, ownGoldens } from '../models/golden-cases.js';

afterAll(removeTemporaryFolders);

const env = { HF_HOME: temporaryFolder() };

interface Reference {
  blocks: { encoding: string; type: number; blocks: string; numbers: string }[];
  sentencepiece: {
    add_space_prefix: boolean;
    tokens: string[];
    scores: number[];
    token_type: number[];
    texts: { text: string; ids: number[] }[];
  }[];
}

const reference = JSON.parse(readFileSync(path.join(ownGoldens, 'gguf.json'), 'utf8')) as Reference;

/** A tokenizer of nothing but bytes, for models whose tests need none. */
const BYTES: Record<string, Value> = {
  'tokenizer.ggml.model': { text: 'gpt2' },
  'tokenizer.ggml.pre': { text: 'gpt-2' },
  'tokenizer.ggml.tokens': { texts: ['a', 'b', 'ab'] },
  'tokenizer.ggml.merges': { texts: ['a b'] },
};

function written(content: Buffer, name = 'model.gguf'): string {
  const file = path.join(temporaryFolder(), name);
  writeFileSync(file, content);
  return file;
}

function target(): string {
  return path.join(temporaryFolder(), 'made');
}

const LLAMA: Record<string, Value> = {
  'general.architecture': { text: 'llama' },
  'llama.block_count': { u32: 1 },
  'llama.context_length': { u32: 512 },
  'llama.embedding_length': { u32: 512 },
  'llama.feed_forward_length': { u32: 512 },
  'llama.attention.head_count': { u32: 4 },
  'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
  ...BYTES,
};

const EMBEDDING: Tensor = {
  name: 'token_embd.weight',
  shape: [1, 32],
  type: 0,
  data: Buffer.alloc(128),
};

/** What no GGUF file says and llama.cpp knows of the published models; the reference has other values. */
function tellTheUntold(folder: string, config: Readonly<Record<string, unknown>>): void {
  const file = path.join(folder, 'config.json');
  const made = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  for (const key of ['query_pre_attn_scalar', 'sliding_window_pattern']) {
    if (key in made) made[key] = config[key];
  }
  writeFileSync(file, JSON.stringify(made));
}

async function failure(work: Promise<unknown>): Promise<MlxkError> {
  const error = await work.then(
    () => expect.fail('it did not fail'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MlxkError);
  return error as MlxkError;
}

describe('a GGUF file converts into a model', () => {
  it.each([
    ['llama', 'llama'],
    ['mistral', 'llama'],
    ['mixtral', 'llama'],
    ['qwen2', 'qwen2'],
    ['qwen3', 'qwen3'],
    ['qwen3_moe', 'qwen3moe'],
    ['gemma', 'gemma'],
    ['gemma2', 'gemma2'],
    ['gemma3_text', 'gemma3'],
  ])('that answers as the reference: %s', async (name, architecture) => {
    const folder = path.join(ownGoldens, name);
    const model = await referenceModel(folder, architecture);
    const file = written(gguf({ ...metadataOf(model), ...BYTES }, model.tensors));
    const made = target();
    const { health } = await convert(file, made, { dtype: 'float32' }, env);
    expect(health).toMatchObject({ healthy: true });
    tellTheUntold(made, model.config);
    const golden = JSON.parse(readFileSync(path.join(folder, 'golden.json'), 'utf8')) as Golden;
    await using loaded = await load(made);
    for (const { prompt, greedy } of golden.runs) {
      const answer = await loaded.generate({ tokens: prompt }, { maxTokens: greedy.length });
      expect(answer.tokens).toEqual(greedy);
    }
  });

  it('of another width, quantized in the same step', async () => {
    const model = await referenceModel(path.join(ownGoldens, 'llama'), 'llama');
    const file = written(gguf({ ...metadataOf(model), ...BYTES }, model.tensors));
    const made = target();
    await convert(file, made, { quantize: 8, groupSize: 32 }, env);
    await using loaded = await load(made);
    expect(loaded.info.weightType).toBe('8-bit');
    expect(JSON.parse(readFileSync(path.join(made, 'config.json'), 'utf8'))).toMatchObject({
      model_type: 'llama',
      rms_norm_eps: 1e-5,
      torch_dtype: 'float16',
      quantization: { bits: 8, group_size: 32, mode: 'affine' },
    });
  });

  it.each(reference.blocks)(
    'with the numbers of ggml: $encoding',
    async ({ type, blocks, numbers }) => {
      const data = Buffer.from(blocks, 'base64');
      const tensor = { name: 'token_embd.weight', shape: [1, 512], type, data };
      const made = target();
      const options = { dtype: 'float32', skipHealth: true } as const; // One matrix is no model.
      await convert(written(gguf(LLAMA, [tensor])), made, options, env);
      const weights = path.join(made, 'model.safetensors');
      const [found] = await readHeader(weights);
      expect(found).toMatchObject({
        name: 'model.embed_tokens.weight',
        dtype: 'F32',
        shape: [1, 512],
      });
      const bytes = readFileSync(weights).subarray(found!.begin);
      const expected = Buffer.from(numbers, 'base64');
      for (let at = 0; at < expected.length; at += 4) {
        const [is, should] = [bytes.readFloatLE(at), expected.readFloatLE(at)];
        expect(Math.abs(is - should)).toBeLessThanOrEqual(1e-6 * (1 + Math.abs(should)));
      }
    },
  );

  it("with llama 3's rope scaling, told from its table", async () => {
    const model = await referenceModel(path.join(ownGoldens, 'llama'), 'llama');
    const theta = Number(model.config['rope_theta']);
    const table = (factor: number): Buffer => {
      const bytes = Buffer.alloc(32);
      for (let i = 0; i < 8; i++) {
        const wavelength = 2 * Math.PI * theta ** (i / 8);
        const smooth = (8192 / wavelength - 1) / 3;
        const divisor =
          wavelength < 2048 ? 1 : wavelength > 8192 ? factor : 1 / ((1 - smooth) / factor + smooth);
        bytes.writeFloatLE(divisor, 4 * i);
      }
      return bytes;
    };
    const rope = { name: 'rope_freqs.weight', shape: [8], type: 0 };
    const metadata = { ...metadataOf(model), ...BYTES };
    const made = target();
    const file = written(gguf(metadata, [...model.tensors, { ...rope, data: table(32) }]));
    await convert(file, made, { dtype: 'float16' }, env);
    const config = JSON.parse(readFileSync(path.join(made, 'config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ rope_scaling: { rope_type: 'llama3', factor: 32 } });
    const odd = written(gguf(metadata, [...model.tensors, { ...rope, data: Buffer.alloc(32, 1) }]));
    expect(await failure(convert(odd, target(), { dtype: 'float16' }, env))).toMatchObject({
      code: 'not_implemented',
      reason: 'rope_unsupported',
    });
  });
});

describe('the tokenizer of a GGUF file', () => {
  async function tokenizerOf(metadata: Record<string, Value>) {
    const made = target();
    const model = await referenceModel(path.join(ownGoldens, 'llama'), 'llama');
    await convert(
      written(gguf({ ...metadataOf(model), ...metadata }, model.tensors)),
      made,
      { dtype: 'float16' },
      env,
    );
    return await load(made);
  }

  it.each(reference.sentencepiece)(
    'cuts and joins as SentencePiece, prefix $add_space_prefix',
    async (golden) => {
      await using model = await tokenizerOf({
        'tokenizer.ggml.model': { text: 'llama' },
        'tokenizer.ggml.tokens': { texts: golden.tokens },
        'tokenizer.ggml.scores': { f32s: golden.scores },
        'tokenizer.ggml.token_type': { i32s: golden.token_type },
        'tokenizer.ggml.bos_token_id': { u32: 1 },
        'tokenizer.ggml.eos_token_id': { u32: 2 },
        'tokenizer.ggml.add_space_prefix': { bool: golden.add_space_prefix },
        'tokenizer.chat_template': { text: '{{ messages[0].content }}' },
      });
      for (const { text, ids } of golden.texts) {
        expect(model.tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
        expect(model.tokenizer.encode(text)).toEqual([1, ...ids]);
        expect(model.tokenizer.decode(ids)).toBe(text);
      }
      expect(model.info).toMatchObject({ hasChatTemplate: true, stopIds: [2] });
    },
  );

  it('of bytes is the one it was made of', async () => {
    await using original = await load('builtin');
    const file = path.join(ownGoldens, '..', '..', 'builtin', 'tokenizer.json');
    const { model, added_tokens } = JSON.parse(readFileSync(file, 'utf8')) as {
      model: { vocab: Record<string, number>; merges: [string, string][] };
      added_tokens: { id: number; content: string }[];
    };
    const tokens = Array.from({ length: 2048 }, (_, id) => `unused ${id}`);
    for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
    const types = tokens.map(() => 1);
    for (const { id, content } of added_tokens) {
      tokens[id] = content;
      types[id] = 3;
    }
    await using made = await tokenizerOf({
      'tokenizer.ggml.model': { text: 'gpt2' },
      'tokenizer.ggml.pre': { text: 'gpt-2' },
      'tokenizer.ggml.tokens': { texts: tokens },
      'tokenizer.ggml.token_type': { i32s: types },
      'tokenizer.ggml.merges': { texts: model.merges.map((pair) => pair.join(' ')) },
      'tokenizer.ggml.eos_token_id': { u32: 2 },
    });
    for (const text of [
      'How do I list my models?',
      ' Grüße  an\nalle! ',
      '<|im_start|>user\nhi<|im_end|>',
    ]) {
      const ids = original.tokenizer.encode(text);
      expect(made.tokenizer.encode(text)).toEqual(ids);
      expect(made.tokenizer.decode(ids)).toBe(text);
    }
  });

  it('of another kind is refused with the way on, and taken from beside the file', async () => {
    const strange = { ...BYTES, 'tokenizer.ggml.pre': { text: 'strange' } };
    const content = gguf({ ...LLAMA, ...strange }, [EMBEDDING]);
    const error = await failure(convert(written(content), target(), { dtype: 'float16' }, env));
    expect(error).toMatchObject({ code: 'not_implemented', reason: 'tokenizer_unsupported' });
    expect(error.message).toContain('"strange"');
    expect(error.message).toContain('tokenizer.json');

    const folder = path.join(temporaryFolder(), 'with-tokenizer');
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'model.gguf'), content);
    writeFileSync(path.join(folder, 'tokenizer.json'), '{"its": "own"}');
    const made = target();
    await convert(folder, made, { dtype: 'float16', skipHealth: true }, env);
    expect(readFileSync(path.join(made, 'tokenizer.json'), 'utf8')).toBe('{"its": "own"}');
  });
});

describe('a GGUF file is refused', () => {
  const tensor = (changes: Partial<Tensor>): Buffer => gguf(LLAMA, [{ ...EMBEDDING, ...changes }]);
  const good = tensor({});
  const patched = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(good);
    bytes.writeUInt32LE(value, at);
    return bytes;
  };

  it.each<[string, Buffer, string, string]>([
    [
      'that is none',
      Buffer.from('not a model at all, but a text'),
      'validation_error',
      'gguf_invalid',
    ],
    ['that is empty', Buffer.alloc(0), 'validation_error', 'gguf_invalid'],
    ['of a version unheard of', patched(4, 9), 'validation_error', 'gguf_invalid'],
    ['that claims 2^32 tensors', patched(12, 1), 'validation_error', 'gguf_invalid'],
    ['that claims 4 billion entries', patched(16, 0xffffffff), 'validation_error', 'gguf_invalid'],
    ['that is cut short', good.subarray(0, good.length - 1), 'validation_error', 'gguf_invalid'],
    ['whose head is cut', good.subarray(0, 200), 'validation_error', 'gguf_invalid'],
    [
      'with an encoding unheard of',
      tensor({ type: 99 }),
      'not_implemented',
      'gguf_encoding_unsupported',
    ],
    ['with half a block', tensor({ type: 2, shape: [1, 48] }), 'validation_error', 'gguf_invalid'],
    [
      'with a tensor of no place',
      gguf(LLAMA, [EMBEDDING, { ...EMBEDDING, name: 'blk.0.mystery.weight' }]),
      'not_implemented',
      'tensor_unknown',
    ],
    ['with a name twice', gguf(LLAMA, [EMBEDDING, EMBEDDING]), 'validation_error', 'gguf_invalid'],
    [
      'with control characters in a name',
      tensor({ name: 'a\u001b[2J' }),
      'validation_error',
      'gguf_invalid',
    ],
    [
      'of another architecture',
      gguf({ ...LLAMA, 'general.architecture': { text: 'mamba' } }, [EMBEDDING]),
      'not_implemented',
      'architecture_unsupported',
    ],
    [
      'without architecture',
      gguf(BYTES, [EMBEDDING]),
      'not_implemented',
      'architecture_unsupported',
    ],
    [
      'with an odd alignment',
      gguf({ ...LLAMA, 'general.alignment': { u32: 33 } }, [EMBEDDING]),
      'validation_error',
      'gguf_invalid',
    ],
  ])('%s', async (_, content, code, reason) => {
    const made = target();
    expect(await failure(convert(written(content), made, { dtype: 'float16' }, env))).toMatchObject(
      { code, reason },
    );
  });

  it('in parts, or beside others, with the way on', async () => {
    const part = await failure(
      convert(written(good, 'm-00001-of-00002.gguf'), target(), { dtype: 'float16' }, env),
    );
    expect(part.message).toContain('llama-gguf-split --merge');
    const folder = temporaryFolder();
    for (const name of ['a.gguf', 'b.gguf']) writeFileSync(path.join(folder, name), good);
    const several = await failure(convert(folder, target(), { dtype: 'float16' }, env));
    expect(several.message).toContain('a.gguf, b.gguf');
  });

  it('or read, whatever its bytes, with every tensor inside it', () => {
    const sound = (bytes: Buffer): void => {
      try {
        for (const { begin, bytes: length, shape } of parseGguf(bytes, bytes.length, 'f').tensors) {
          expect(begin + length).toBeLessThanOrEqual(bytes.length);
          expect(shape.every((dim) => dim > 0)).toBe(true);
        }
      } catch (error) {
        const isRefusal = error instanceof MlxkError || /^ends /.test((error as Error).message);
        if (!isRefusal) throw error;
      }
    };
    const change = fc.record({
      at: fc.nat(good.length - 1),
      byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 127, 128, 255)),
    });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
        const bytes = Buffer.from(good);
        for (const { at, byte } of changes) bytes[at] = byte;
        sound(bytes);
      }),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        sound(Buffer.concat([good.subarray(0, 8), bytes]));
      }),
      { numRuns: 2000 },
    );
  });
});
