import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { load } from '../../lib/index.js';
import { convert } from '../../lib/convert/convert.js';
import type { ConvertOptions } from '../../lib/convert/options.js';
import { readHeader } from '../../lib/convert/source.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { ownGoldens } from '../models/golden-cases.js';

afterAll(removeTemporaryFolders);

interface Conversion {
  source: string;
  options: ConvertOptions;
  /** Hash of names, types, shapes and bytes. */
  tensors: string;
  /** Hashes of mlx-lm's files. */
  files: Record<string, string>;
  prompt?: number[];
  greedy?: number[];
}

const { cases } = JSON.parse(readFileSync(path.join(ownGoldens, 'conversions.json'), 'utf8')) as {
  cases: Conversion[];
};

const sha256 = (data: Uint8Array | string): string =>
  createHash('sha256').update(data).digest('hex');

async function tensorsHash(file: string): Promise<string> {
  const data = readFileSync(file);
  const tensors = await readHeader(file);
  const lines = tensors.map(({ name, dtype, shape, begin, bytes }) => {
    const hash = sha256(data.subarray(begin, begin + bytes));
    return `${name} ${dtype} [${shape.join(',')}] ${hash}\n`;
  });
  return sha256(lines.sort().join(''));
}

// MLX lays tensors out in the order of a hash table of its C++ library, which is the same as ours on Linux alone.
const sameLayout = process.platform === 'linux';

describe('a converted model is what mlx-lm makes, byte for byte', () => {
  it.each(cases.map((entry) => ({ ...entry, title: JSON.stringify(entry.options) })))(
    '$source $title',
    async ({ source, options, tensors, files, prompt, greedy }) => {
      const target = path.join(temporaryFolder(), 'converted');
      const env = { HF_HOME: temporaryFolder() };
      const result = await convert(path.join(ownGoldens, source), target, options, env);
      expect(result.health).toMatchObject({ healthy: true });
      expect(await tensorsHash(path.join(target, 'model.safetensors'))).toBe(tensors);
      for (const [name, hash] of Object.entries(files)) {
        if (name.endsWith('.safetensors') && !sameLayout) continue;
        expect(`${name} ${sha256(readFileSync(path.join(target, name)))}`).toBe(`${name} ${hash}`);
      }
      if (prompt === undefined || greedy === undefined) return;
      await using model = await load(target);
      const answer = await model.generate({ tokens: prompt }, { maxTokens: greedy.length });
      expect(answer.tokens).toEqual(greedy);
    },
  );
});
