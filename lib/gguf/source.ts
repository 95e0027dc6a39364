/**
 * A GGUF file as the source of a conversion: its tensors under the names of a transformers checkpoint, the config.json
 * it amounts to, and the files of its tokenizer.
 */

import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import { parse } from 'lossless-json';

import type { Config, Source, SourceTensor } from '../convert/source.js';
import { MlxkError } from '../errors.js';
import { GgufModel, llama3Factor } from './architecture.js';
import { type GgufFile, type GgufTensor, readGguf } from './reader.js';
import { tokenizerFiles } from './tokenizer.js';

const ROPE_TABLE = 'rope_freqs.weight';

/** The GGUF file that a source means: itself, or the only one in a folder without other weights. */
export async function ggufFileOf(source: string): Promise<string | undefined> {
  if ((await stat(source)).isFile()) return source;
  const names = await readdir(source);
  if (names.some((name) => /^model.*\.safetensors$/.test(name))) return undefined;
  const files = names.filter((name) => name.endsWith('.gguf'));
  const [file, another] = files;
  if (another !== undefined) {
    throw new MlxkError(
      'validation_error',
      `${source} has several GGUF files; give one of them as the source: ${files.join(', ')}`,
      { reason: 'source_ambiguous', detail: { files } },
    );
  }
  return file === undefined ? undefined : path.join(source, file);
}

/** @throws MlxkError as `readGguf`, `GgufModel` and `tokenizerFiles` have it. */
export async function readGgufSource(file: string): Promise<Source> {
  if (/-\d{5}-of-\d{5}\.gguf$/.test(file)) {
    throw new MlxkError(
      'not_implemented',
      `${path.basename(file)} is one part of several; join them first: llama-gguf-split --merge`,
      { reason: 'gguf_split', detail: { file } },
    );
  }
  const gguf = await readGguf(file);
  const label = path.basename(file);
  const model = new GgufModel(gguf, label);
  const table = gguf.tensors.find(({ name }) => name === ROPE_TABLE);
  const theta = Number(model.config(undefined)['rope_theta']);
  const factor =
    table === undefined ? undefined : llama3Factor(await numbersOf(file, table), theta);
  return {
    files: [file],
    tensors: tensorsOf(gguf, model),
    // As if it had been read from a file: config.json is written from numbers as text.
    config: parse(JSON.stringify(model.config(factor))) as Config,
    extraFiles: await tokenizerOf(gguf, file, label),
  };
}

function tensorsOf(gguf: GgufFile, model: GgufModel): SourceTensor[] {
  return gguf.tensors
    .filter(({ name }) => name !== ROPE_TABLE)
    .map(({ name, encoding, shape, begin, bytes }) => ({
      ...model.map(name),
      encoding,
      shape,
      file: 0,
      begin,
      bytes,
    }));
}

/** A tokenizer.json beside the file is the model's own, and better than one made of the metadata. */
async function tokenizerOf(
  gguf: GgufFile,
  file: string,
  label: string,
): Promise<Source['extraFiles']> {
  const beside = path.join(path.dirname(file), 'tokenizer.json');
  const exists = (await stat(beside).catch(() => undefined))?.isFile() === true;
  return exists ? {} : tokenizerFiles(gguf.metadata, label);
}

async function numbersOf(file: string, tensor: GgufTensor): Promise<Float32Array> {
  if (tensor.encoding !== 'F32' || tensor.bytes > 65536) {
    throw new MlxkError('not_implemented', `${tensor.name} is no small table of float32`, {
      reason: 'rope_unsupported',
      detail: { tensor: tensor.name },
    });
  }
  const handle = await open(file, 'r');
  try {
    const bytes = Buffer.alloc(tensor.bytes);
    await handle.read(bytes, 0, bytes.length, tensor.begin);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  } finally {
    await handle.close();
  }
}
