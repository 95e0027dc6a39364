/**
 * Strict reader of a GGUF file's head: metadata, and where each tensor's bytes lie. Every count and length is checked
 * against what is left of the file before anything is made of it. Reads no tensor. Format: ggml, docs/gguf.md, versions
 * 2 and 3, little-endian.
 */

import { type FileHandle, open } from 'node:fs/promises';

import { MlxkError } from '../errors.js';
import { visibleLine } from '../visible.js';

const MAGIC = 0x46554747;
/** Vocabularies of 260,000 tokens with their merges take 20 MB. */
const MAX_HEAD_BYTES = 256 * 2 ** 20;
const FIRST_READ_BYTES = 32 * 2 ** 20;
const MAX_TENSORS = 200_000;
const MAX_DIMENSIONS = 4;
const MAX_NAME_BYTES = 512;
const MAX_DEPTH = 2;
const DEFAULT_ALIGNMENT = 32;

/** Encodings that are read: names, numbers in a block, bytes of a block. */
const ENCODINGS: Readonly<Record<number, readonly [string, number, number]>> = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  2: ['Q4_0', 32, 18],
  3: ['Q4_1', 32, 20],
  6: ['Q5_0', 32, 22],
  7: ['Q5_1', 32, 24],
  8: ['Q8_0', 32, 34],
  10: ['Q2_K', 256, 84],
  11: ['Q3_K', 256, 110],
  12: ['Q4_K', 256, 144],
  13: ['Q5_K', 256, 176],
  14: ['Q6_K', 256, 210],
  30: ['BF16', 1, 2],
};

export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

export interface GgufTensor {
  readonly name: string;
  readonly encoding: string;
  /** As MLX has it: the last axis is contiguous. */
  readonly shape: readonly number[];
  /** Position of the first byte in the file. */
  readonly begin: number;
  readonly bytes: number;
}

export interface GgufFile {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
}

/**
 * Reads the head of a file.
 *
 * @throws MlxkError `validation_error` / `gguf_invalid` naming what is wrong, `not_implemented` /
 * `gguf_encoding_unsupported` for a tensor in another encoding.
 */
export async function readGguf(file: string): Promise<GgufFile> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    let wanted = Math.min(size, FIRST_READ_BYTES);
    for (;;) {
      const head = await readHead(handle, wanted);
      try {
        return parseGguf(head, size, file);
      } catch (error) {
        const mayGrow = error instanceof HeadEnds && wanted < Math.min(size, MAX_HEAD_BYTES);
        if (!mayGrow) throw error instanceof HeadEnds ? invalid(file, error.message) : error;
        wanted = Math.min(size, MAX_HEAD_BYTES, 4 * wanted);
      }
    }
  } finally {
    await handle.close();
  }
}

async function readHead(handle: FileHandle, bytes: number): Promise<Buffer> {
  const head = Buffer.alloc(bytes);
  let read = 0;
  while (read < bytes) {
    const { bytesRead } = await handle.read(head, read, bytes - read, read);
    if (bytesRead === 0) break;
    read += bytesRead;
  }
  return head.subarray(0, read);
}

/** The head goes on beyond the bytes that are there. */
class HeadEnds extends Error {}

/** Pure, so that it can be fuzzed. `size` is that of the whole file; `label` opens each message. */
export function parseGguf(head: Buffer, size: number, label: string): GgufFile {
  const cursor = new Cursor(head, label);
  if (cursor.u32() !== MAGIC) throw invalid(label, 'is not a GGUF file');
  const version = cursor.u32();
  if (version !== 2 && version !== 3)
    throw invalid(label, `is GGUF version ${version}; 2 and 3 are read`);
  const tensorCount = cursor.count('tensors', 24);
  const entryCount = cursor.count('metadata entries', 12);
  if (tensorCount > MAX_TENSORS)
    throw invalid(label, `lists ${tensorCount} tensors, more than ${MAX_TENSORS}`);

  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < entryCount; index++) {
    const key = cursor.text('a metadata key');
    if (metadata.has(key))
      throw invalid(label, `has the metadata key ${JSON.stringify(key)} twice`);
    metadata.set(key, cursor.value(cursor.u32(), key));
  }
  const heads = Array.from({ length: tensorCount }, () => tensorHead(cursor, label));
  const alignment = alignmentOf(metadata, label);
  const dataBegin = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = heads.map(({ offset, ...tensor }) => {
    if (offset % alignment !== 0)
      throw tensorInvalid(label, tensor.name, 'does not begin on its alignment');
    return { ...tensor, begin: dataBegin + offset };
  });
  checkLayout(tensors, size, label);
  return { metadata, tensors };
}

function tensorHead(cursor: Cursor, label: string): Omit<GgufTensor, 'begin'> & { offset: number } {
  const name = cursor.text('a tensor name');
  if (name === '' || Buffer.byteLength(name) > MAX_NAME_BYTES || visibleLine(name) !== name) {
    throw invalid(label, `has the tensor name ${JSON.stringify(name.slice(0, 80))}`);
  }
  const rank = cursor.u32();
  if (rank < 1 || rank > MAX_DIMENSIONS) throw tensorInvalid(label, name, `has ${rank} dimensions`);
  const shape: number[] = [];
  let numbers = 1;
  for (let axis = 0; axis < rank; axis++) {
    const dim = cursor.u64();
    numbers *= dim;
    if (dim < 1 || dim > 2 ** 31 - 1 || numbers > 2 ** 48) {
      throw tensorInvalid(label, name, 'has a dimension that cannot be');
    }
    shape.unshift(dim);
  }
  const type = cursor.u32();
  const encoding = ENCODINGS[type];
  if (encoding === undefined) {
    throw new MlxkError(
      'not_implemented',
      `${label}: tensor "${name}" has the encoding ${type}, which is not read`,
      {
        reason: 'gguf_encoding_unsupported',
        detail: { tensor: name, encoding: type },
      },
    );
  }
  const [encodingName, blockNumbers, blockBytes] = encoding;
  if ((shape.at(-1) ?? 0) % blockNumbers !== 0) {
    throw tensorInvalid(label, name, `has rows that do not divide into blocks of ${blockNumbers}`);
  }
  return {
    name,
    encoding: encodingName,
    shape,
    bytes: (numbers / blockNumbers) * blockBytes,
    offset: cursor.u64(),
  };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, label: string): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  const sound =
    typeof alignment === 'number' &&
    alignment >= 8 &&
    alignment <= 65536 &&
    Number.isInteger(Math.log2(alignment));
  if (!sound) throw invalid(label, `has the alignment ${String(alignment)}`);
  return alignment;
}

function checkLayout(tensors: readonly GgufTensor[], size: number, label: string): void {
  const names = new Set<string>();
  let end = 0;
  for (const tensor of [...tensors].sort((a, b) => a.begin - b.begin)) {
    if (names.has(tensor.name)) throw tensorInvalid(label, tensor.name, 'is there twice');
    names.add(tensor.name);
    if (tensor.begin < end) throw tensorInvalid(label, tensor.name, 'shares bytes with another');
    end = tensor.begin + tensor.bytes;
    if (end > size) {
      throw tensorInvalid(
        label,
        tensor.name,
        `ends at byte ${end}, the file at ${size}; it may be cut short`,
      );
    }
  }
}

/** Sizes of the fixed-length value types; a string and an array begin with their length. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const STRING = 8;
const ARRAY = 9;

class Cursor {
  at = 0;
  readonly #bytes: Buffer;
  readonly #label: string;

  constructor(bytes: Buffer, label: string) {
    this.#bytes = bytes;
    this.#label = label;
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  /** Up to 2^53 - 1. */
  u64(): number {
    const value = this.#bytes.readBigUInt64LE(this.#take(8));
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw invalid(this.#label, `holds the number ${value}`);
    return Number(value);
  }

  /** A number of things of at least `least` bytes each. */
  count(what: string, least: number): number {
    const count = this.u64();
    if (count * least > MAX_HEAD_BYTES) throw invalid(this.#label, `claims ${count} ${what}`);
    if (count * least > this.#bytes.length - this.at) throw new HeadEnds(`ends among its ${what}`);
    return count;
  }

  text(what: string): string {
    const length = this.count(`bytes of ${what}`, 1);
    const start = this.#take(length);
    return this.#bytes.toString('utf8', start, start + length);
  }

  value(type: number, key: string, depth = 0): GgufValue {
    switch (type) {
      case 0:
        return this.#bytes.readUInt8(this.#take(1));
      case 1:
        return this.#bytes.readInt8(this.#take(1));
      case 2:
        return this.#bytes.readUInt16LE(this.#take(2));
      case 3:
        return this.#bytes.readInt16LE(this.#take(2));
      case 4:
        return this.u32();
      case 5:
        return this.#bytes.readInt32LE(this.#take(4));
      case 6:
        return shortest(this.#bytes.readFloatLE(this.#take(4)));
      case 7:
        return this.#bytes.readUInt8(this.#take(1)) !== 0;
      case STRING:
        return this.text(`the value of ${key}`);
      case ARRAY:
        return this.#array(key, depth);
      case 10:
        return narrowed(this.#bytes.readBigUInt64LE(this.#take(8)));
      case 11:
        return narrowed(this.#bytes.readBigInt64LE(this.#take(8)));
      case 12:
        return this.#bytes.readDoubleLE(this.#take(8));
      default:
        throw invalid(this.#label, `has the unknown value type ${type} at ${JSON.stringify(key)}`);
    }
  }

  #array(key: string, depth: number): GgufValue[] {
    if (depth >= MAX_DEPTH)
      throw invalid(this.#label, `nests lists too deep at ${JSON.stringify(key)}`);
    const type = this.u32();
    const least = VALUE_BYTES[type];
    if (least === undefined) {
      throw invalid(this.#label, `has the unknown value type ${type} at ${JSON.stringify(key)}`);
    }
    const count = this.count(`values of ${key}`, least);
    return Array.from({ length: count }, () => this.value(type, key, depth + 1));
  }

  /** Start of the next `bytes` bytes. */
  #take(bytes: number): number {
    if (bytes > this.#bytes.length - this.at) throw new HeadEnds('ends within its head');
    const start = this.at;
    this.at += bytes;
    return start;
  }
}

/** The shortest decimal number that is this float32: 1e-5, not 0.000009999999747. */
function shortest(value: number): number {
  for (let digits = 1; digits <= 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return value;
}

function narrowed(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function tensorInvalid(label: string, name: string, why: string): MlxkError {
  return invalid(label, `tensor ${JSON.stringify(name)} ${why}`);
}

function invalid(label: string, why: string): MlxkError {
  return new MlxkError('validation_error', `${label}: ${why}`, {
    reason: 'gguf_invalid',
    detail: { file: label },
  });
}
