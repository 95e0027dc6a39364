/**
 * Small safetensors files with given tensors, for tests of names and shapes.
 */

/** Name → [dtype, shape]. */
export type Tensors = Readonly<Record<string, readonly [string, readonly number[]]>>;

const BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, U32: 4, U8: 1 };

/** A file whose numbers are zeros. */
export function safetensors(tensors: Tensors): Buffer {
  const [head, size] = safetensorsHead(tensors);
  return Buffer.concat([head, Buffer.alloc(size)]);
}

/** The first bytes of such a file, and how many zeros are to follow. */
export function safetensorsHead(tensors: Tensors): [Buffer, number] {
  let end = 0;
  const header: Record<string, object> = {};
  for (const [name, [dtype, shape]] of Object.entries(tensors)) {
    const begin = end;
    end += shape.reduce((product, size) => product * size, BYTES[dtype] ?? 0);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return [Buffer.concat([length, json]), end];
}
