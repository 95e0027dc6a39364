/**
 * A download is killed at random moments, with nothing to clean up after it, and done again. `MLXK_TEST_KILLS` sets how
 * often, `MLXK_TEST_SEED` which moments.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { health } from '../../lib/cache/health.js';
import { pull, type PullOptions } from '../../lib/cache/pull.js';
import { builtPackage } from '../helpers/child.js';
import { HubServer } from '../helpers/hub-server/index.js';
import { generator } from '../helpers/random.js';
import { into, modelFiles, straysIn, wrongIn } from '../helpers/remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const KILLS = Number(process.env.MLXK_TEST_KILLS ?? 25);
const SEED = Number(process.env.MLXK_TEST_SEED ?? Date.now() % 1_000_000);
const PIECE = 32 * 1024;
const CONNECTIONS = 4;
const MAX_KILLS_IN_A_ROW = 3;

const hub = new HubServer();
const files = modelFiles({ shards: 5, shardBytes: 8 * PIECE + 100 });
const bytes = files.reduce((sum, file) => sum + file.size, 0);
const built = pathToFileURL(
  path.join(path.dirname(new URL(builtPackage).pathname), 'cache', 'pull.js'),
);

beforeAll(() => hub.start());
afterAll(() => hub.stop());
afterEach(removeTemporaryFolders);

/**
 * Pulls in a process of its own and kills it: mostly when a random share of the bytes has been sent, sometimes after a
 * random request, sometimes a little after all bytes have been sent, when names are given. Tells whether it was killed.
 */
async function pullAndKill(options: PullOptions, random: () => number): Promise<boolean> {
  const script = `import { pull } from ${JSON.stringify(built.href)};
    await pull('org/model', ${JSON.stringify(options)});`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  const kind = random();
  const before = hub.fileBytesSent();
  const goal = kind < 0.7 ? random() * bytes : bytes;
  const requests = hub.requests.length + Math.floor(random() * 40);
  const lateMs = kind < 0.7 ? random() * 3 : random() * 40;
  const reached = (): boolean =>
    kind > 0.85 ? hub.requests.length >= requests : hub.fileBytesSent() - before >= goal;
  while (child.exitCode === null && !reached()) await wait(1);
  await Promise.race([wait(lateMs), ended]);
  child.kill('SIGKILL');
  const [, signal] = await ended;
  return signal === 'SIGKILL';
}

describe(`a pull killed ${KILLS} times, seed ${SEED}`, () => {
  it(
    'ends healthy each time, with hardly a byte fetched twice and nothing left over',
    async () => {
      const repository = hub.add('org/model', files);
      const random = generator(SEED);
      let kills = 0;
      let rounds = 0;
      while (kills < KILLS) {
        const about = `round ${++rounds}, seed ${SEED}`;
        hub.reset();
        hub.faults.add(({ host }) => host === 'cdn', {
          kind: 'slow',
          chunkBytes: 8192,
          pauseMs: 1,
        });
        const cache = path.join(temporaryFolder(), 'hub');
        const options = into(cache, hub.endpoint, { pieceBytes: PIECE, connections: CONNECTIONS });
        const snapshot = path.join(
          cache,
          'models--org--model',
          'snapshots',
          repository.resolve('main')!,
        );
        let inARow = 0;
        for (
          const wanted = 1 + Math.floor(random() * MAX_KILLS_IN_A_ROW);
          inARow < wanted;
          inARow++
        ) {
          if (!(await pullAndKill(options, random))) break;
          kills += 1;
          if (health(snapshot).healthy) expect(wrongIn(snapshot, files), about).toEqual([]);
        }
        hub.faults.clear();
        await pull('org/model', options);
        expect(health(snapshot), about).toMatchObject({ healthy: true });
        expect(wrongIn(snapshot, files), about).toEqual([]);
        expect(straysIn(cache), about).toEqual([]);
        // Of each killed pull, no more than the pieces that were on their way.
        expect(hub.fileBytesSent(), about).toBeLessThanOrEqual(
          bytes + inARow * CONNECTIONS * PIECE,
        );
        removeTemporaryFolders();
      }
    },
    Math.max(60_000, KILLS * 5000),
  );
});
