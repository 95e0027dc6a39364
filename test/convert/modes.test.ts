/**
 * Every family in the packed formats that the other tests do not convert it to: what a format cannot hold stays as it
 * is, and is never met first by MLX.
 */

import { existsSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { cache, load } from '../../lib/index.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { goldenCases, ownGoldens } from '../models/golden-cases.js';

const PROMPT = [5, 9, 3, 17, 8];

/** The first case of each; later ones may be in the storage of other toolkits. */
const families = new Map(
  goldenCases(ownGoldens)
    .filter(({ golden, folder, adapter }) => {
      const inOneFile = existsSync(path.join(folder, 'model.safetensors'));
      return golden.quantize == null && adapter === undefined && inOneFile;
    })
    .map(({ golden, folder }) => [golden.model_type, folder] as const)
    .reverse(),
);

afterAll(removeTemporaryFolders);

describe.each(['nvfp4', 'mxfp4', 'mxfp8'] as const)('%s', (mode) => {
  it.each([...families])('of %s runs', async (_, folder) => {
    const packed = path.join(temporaryFolder(), 'packed');
    const quantize = mode === 'mxfp8' ? 8 : 4;
    await cache.convert(folder, packed, { quantize, mode, skipHealth: true });
    await using model = await load(packed);
    const { tokens } = await model.generate({ tokens: PROMPT }, { maxTokens: 2, ignoreEos: true });
    expect(tokens).toHaveLength(2);
  });
});
