// Model folders whose weight file lies, made from a good one: the eight kinds that MLX itself loads
// without complaint, and the three ways a download goes wrong. The strict reader refuses them all.

import { cpSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface BadModel {
  /** What is wrong with it; also the name of its folder. */
  readonly name: string;
  readonly folder: string;
  /** The `reason` of the `validation_error` that a load must give. */
  readonly reason: string;
}

interface Entry {
  name: string;
  dtype: string;
  shape: bigint[];
  begin: bigint;
  end: bigint;
}

interface Weights {
  metadata: unknown;
  entries: Entry[];
  data: Buffer;
}

function parse(file: Buffer): Weights {
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<string, unknown>;
  const { __metadata__: metadata, ...tensors } = header;
  const entries = Object.entries(tensors).map(([name, value]) => {
    const tensor = value as { dtype: string; shape: number[]; data_offsets: [number, number] };
    const [begin, end] = tensor.data_offsets;
    return {
      name,
      dtype: tensor.dtype,
      shape: tensor.shape.map(BigInt),
      begin: BigInt(begin),
      end: BigInt(end),
    };
  });
  entries.sort((a, b) => Number(a.begin - b.begin));
  return { metadata, entries, data: file.subarray(8 + length) };
}

// Not JSON.stringify: the lies need names given twice and integers beyond 2^53.
function serialize({ metadata, entries, data }: Weights): Buffer {
  const parts = entries.map(
    ({ name, dtype, shape, begin, end }) =>
      `${JSON.stringify(name)}:{"dtype":${JSON.stringify(dtype)},"shape":[${shape.join(',')}],` +
      `"data_offsets":[${begin},${end}]}`,
  );
  if (metadata !== undefined) parts.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const header = Buffer.from(`{${parts.join(',')}}`);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, data]);
}

function find(weights: Weights, accepts: (entry: Entry) => boolean): Entry {
  const entry = weights.entries.find(accepts);
  if (entry === undefined) throw new Error('the good model has no tensor fit for this lie');
  return entry;
}

const wrap64 = (value: bigint): bigint => BigInt.asUintN(64, value);

// Each changes freshly parsed weights and may return its own bytes instead.
const lies: Record<string, { reason: string; tell: (weights: Weights) => Buffer | undefined }> = {
  'shape-product-wraps-to-zero': {
    reason: 'size_overflow',
    tell(weights) {
      const shape = [65536n, 65536n, 65536n, 65536n];
      weights.entries.unshift({ name: 'lie', dtype: 'U8', shape, begin: 0n, end: 0n });
    },
  },
  'negative-dimensions': {
    reason: 'shape_invalid',
    tell(weights) {
      const matrix = find(weights, ({ shape }) => shape.length === 2);
      matrix.shape = matrix.shape.map((dim) => -dim);
    },
  },
  'dimension-wraps-32-bits': {
    reason: 'shape_invalid',
    tell(weights) {
      const tensor = find(weights, ({ shape }) => shape.length > 0);
      tensor.shape = tensor.shape.map((dim, axis) => (axis === 0 ? dim + (1n << 32n) : dim));
    },
  },
  'offset-wraps-64-bits': {
    reason: 'offsets_range',
    tell(weights) {
      // The start of the data plus this offset wraps to a place inside the header's text.
      const tensor = find(weights, ({ begin, end }) => end > begin);
      const bytes = tensor.end - tensor.begin;
      tensor.begin = wrap64(-16n);
      tensor.end = wrap64(tensor.begin + bytes);
    },
  },
  'tensors-overlap': {
    reason: 'offsets_overlap',
    tell(weights) {
      const first = find(weights, (a) =>
        weights.entries.some((b) => b.begin > a.begin && b.end - b.begin === a.end - a.begin),
      );
      const second = find(
        weights,
        (b) => b.begin > first.begin && b.end - b.begin === first.end - first.begin,
      );
      second.begin = first.begin;
      second.end = first.end;
    },
  },
  'gap-between-tensors': {
    reason: 'offsets_gap',
    tell(weights) {
      const at = find(weights, ({ begin, end }) => end > begin).end;
      for (const entry of weights.entries) {
        if (entry.begin < at) continue;
        entry.begin += 8n;
        entry.end += 8n;
      }
      const cut = Number(at);
      const { data } = weights;
      weights.data = Buffer.concat([data.subarray(0, cut), Buffer.alloc(8), data.subarray(cut)]);
    },
  },
  'trailing-bytes': {
    reason: 'trailing_bytes',
    tell(weights) {
      weights.data = Buffer.concat([weights.data, Buffer.from('PK\u0005\u0006')]);
    },
  },
  'duplicate-tensor': {
    reason: 'header_duplicate',
    tell(weights) {
      weights.entries.push(find(weights, () => true));
    },
  },
  'cut-short': {
    reason: 'offsets_range',
    tell(weights) {
      const whole = serialize(weights);
      return whole.subarray(0, whole.length - 1);
    },
  },
  'lfs-pointer': {
    reason: 'lfs_pointer',
    tell() {
      const oid = '0'.repeat(64);
      return Buffer.from(
        `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize 4096\n`,
      );
    },
  },
  'html-page': {
    reason: 'html_page',
    tell() {
      return Buffer.from('<!DOCTYPE html>\n<html><body>404: not found</body></html>\n');
    },
  },
};

/**
 * Writes one folder per lie under `target`: a copy of the model folder `good` whose first
 * `model*.safetensors` is replaced. Links are followed; `good` is not changed.
 *
 * Throws when `good` has no weights, or none that a lie can be told with (it needs a matrix and two
 * tensors of equal size, as every transformer has).
 */
export function writeBadModels(good: string, target: string): BadModel[] {
  const shard = readdirSync(good)
    .sort()
    .find((name) => /^model.*\.safetensors$/.test(name));
  if (shard === undefined) throw new Error(`${good} has no model*.safetensors`);
  const bytes = readFileSync(join(good, shard));
  return Object.entries(lies).map(([name, { reason, tell }]) => {
    const folder = join(target, name);
    mkdirSync(folder, { recursive: true });
    for (const file of readdirSync(good)) {
      if (file === shard) continue;
      cpSync(join(good, file), join(folder, file), { dereference: true, recursive: true });
    }
    const weights = parse(bytes);
    const replaced = tell(weights);
    writeFileSync(join(folder, shard), replaced ?? serialize(weights));
    return { name, folder, reason };
  });
}
