import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { Partial } from '../../lib/cache/partial.js';
import { gitBlobHash } from '../helpers/hub-server/index.js';
import { noise } from '../helpers/remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(removeTemporaryFolders);

const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

function open(
  content: Buffer,
  { pieceBytes = 100, alone = true, blob = sha256(content) } = {},
): Promise<Partial> {
  return Partial.open({ folder, blob, bytes: content.length, pieceBytes, alone });
}

/** Writes what is missing, all or the first pieces of it. */
async function fill(partial: Partial, content: Buffer, pieces = Infinity): Promise<number> {
  let written = 0;
  for (const { index, start, end } of partial.missing().slice(0, pieces)) {
    await partial.write(index, content.subarray(start, end));
    written += end - start;
  }
  return written;
}

const only = (): string => {
  const [name, ...others] = readdirSync(folder);
  expect(others).toEqual([]);
  return path.join(folder, name!);
};

describe('a partial file', () => {
  it('becomes the blob once it is whole', async () => {
    const content = noise(1050, 'a');
    const partial = await open(content);
    expect(partial.missing()).toHaveLength(11);
    await fill(partial, content);
    expect(await partial.digest()).toBe(sha256(content));
    await partial.publish(path.join(folder, 'blob'));
    expect(readFileSync(only()).equals(content)).toBe(true);
  });

  it('hashes small files as Git does', async () => {
    const content = Buffer.from('hello\n');
    const partial = await open(content, { blob: gitBlobHash(content) });
    await fill(partial, content);
    expect(await partial.digest()).toBe('ce013625030ba8dba906f756967f9e9ca394464a');
    await partial.close(false);
    expect(readdirSync(folder)).toEqual([]);
  });

  it('has no hash before it is whole, and takes no more than a piece has', async () => {
    const content = noise(250, 'a');
    const partial = await open(content);
    await expect(partial.digest()).rejects.toThrow('not whole');
    await expect(partial.write(0, content)).rejects.toThrow(RangeError);
    await partial.close(true);
  });

  it('goes on where any sequence of processes stopped, losing unfinished pieces alone', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 2000 }),
        fc.integer({ min: 1, max: 300 }),
        fc.array(
          fc.record({
            pieces: fc.integer({ min: 0, max: 5 }),
            half: fc.boolean(),
            pieceBytes: fc.integer({ min: 1, max: 300 }),
          }),
          {
            maxLength: 4,
          },
        ),
        async (bytes, pieceBytes, runs) => {
          folder = temporaryFolder();
          const content = noise(bytes, String(bytes));
          let kept = 0;
          for (const run of runs) {
            const partial = await open(content, {
              pieceBytes: kept === 0 ? pieceBytes : run.pieceBytes,
            });
            expect(partial.haveBytes).toBe(kept);
            kept += await fill(partial, content, run.pieces);
            const [next] = partial.missing();
            if (run.half && next !== undefined) {
              const half = Math.floor((next.end - next.start) / 2);
              await partial.write(next.index, content.subarray(next.start, next.start + half));
            }
            await partial.close(true);
            if (kept === 0) pieceBytes = run.pieceBytes; // Nothing holds the next one to it.
          }
          const last = await open(content, { pieceBytes });
          await fill(last, content);
          expect(await last.digest()).toBe(sha256(content));
          await last.publish(path.join(folder, 'blob'));
          expect(readFileSync(only()).equals(content)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('what others left', () => {
  const content = noise(1000, 'a');
  const foreign = (bytes: Buffer, name = `${sha256(content)}.0a1b2c3d.incomplete`): void =>
    writeFileSync(path.join(folder, name), bytes);

  it.each(['0a1b2c3d.incomplete', 'incomplete'])('as .%s is gone on with', async (suffix) => {
    foreign(content.subarray(0, 730), `${sha256(content)}.${suffix}`);
    const partial = await open(content);
    expect(partial.haveBytes).toBe(730);
    expect(partial.missing()[0]).toEqual({ index: 7, start: 730, end: 800 });
    await fill(partial, content);
    expect(await partial.digest()).toBe(sha256(content));
    await partial.close(false);
  });

  it('the fullest is taken, the others go', async () => {
    foreign(content.subarray(0, 100), `${sha256(content)}.00000001.incomplete`);
    foreign(content.subarray(0, 900), `${sha256(content)}.00000002.incomplete`);
    foreign(Buffer.from('of another blob'), `${'0'.repeat(64)}.00000003.incomplete`);
    const partial = await open(content);
    expect(partial.haveBytes).toBe(900);
    expect(readdirSync(folder)).toHaveLength(2);
    await partial.close(true);
  });

  it('is left alone where nothing tells that its owner is dead', async () => {
    foreign(content.subarray(0, 900));
    const partial = await open(content, { alone: false });
    expect(partial.haveBytes).toBe(0);
    await partial.close(false);
    expect(statSync(only()).size).toBe(900);
  });

  it('that is longer than the blob is worth nothing', async () => {
    foreign(Buffer.alloc(5000));
    const partial = await open(content);
    expect(partial.haveBytes).toBe(0);
    await fill(partial, content);
    expect(await partial.digest()).toBe(sha256(content));
    await partial.publish(path.join(folder, 'blob'));
    expect(statSync(path.join(folder, 'blob')).size).toBe(1000);
  });

  it('that is whole and was not named yet is only checked', async () => {
    foreign(content);
    const partial = await open(content);
    expect(partial.missing()).toEqual([]);
    expect(await partial.digest()).toBe(sha256(content));
    await partial.close(false);
  });

  it('that is wrong is told by the hash, and can be forgotten', async () => {
    foreign(Buffer.alloc(1000, 1));
    const partial = await open(content);
    expect(partial.resumed).toBe(true);
    expect(await partial.digest()).not.toBe(sha256(content));
    await partial.restart();
    expect(partial.resumed).toBe(false);
    await fill(partial, content);
    expect(await partial.digest()).toBe(sha256(content));
    await partial.close(false);
  });

  it('of our own, cut at any byte, never counts for more than is there', async () => {
    const whole = temporaryFolder();
    folder = whole;
    const made = await open(content);
    await fill(made, content, 6);
    await made.close(true);
    const bytes = readFileSync(only());
    for (let length = 0; length <= bytes.length; length += 7) {
      folder = temporaryFolder();
      foreign(bytes);
      truncateSync(only(), length);
      const partial = await open(content);
      await fill(partial, content);
      if ((await partial.digest()) !== sha256(content)) {
        expect(partial.resumed, `cut at ${length}`).toBe(true);
        await partial.restart();
        await fill(partial, content);
      }
      expect(await partial.digest(), `cut at ${length}`).toBe(sha256(content));
      await partial.close(false);
    }
  });
});
