import { unlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { program, run } from '../helpers/child.js';
import { HubServer } from '../helpers/hub-server/index.js';
import { RemoteCache } from '../helpers/remote-cache.js';
import { modelFiles, straysIn, wrongIn } from '../helpers/remote-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const sessionScript = fileURLToPath(new URL('../helpers/terminal_session.py', import.meta.url));
const server = new HubServer();
let cache: RemoteCache;

beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => {
  cache = new RemoteCache(server);
});
afterEach(() => {
  server.reset();
  server.repositories.clear();
  removeTemporaryFolders();
});

type Step = { wait: string } | { send: string } | { signal: NodeJS.Signals };

/** `mlxk pull org/model` on a pseudo-terminal. */
async function session(
  steps: readonly Step[],
): Promise<{ code: number | null; signal: number | null; output: string }> {
  const command = [
    sessionScript,
    JSON.stringify(steps),
    process.execPath,
    program,
    'pull',
    'org/model',
  ];
  const { stdout, stderr } = await run('python3', command, { env: cache.env });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as { code: number | null; signal: number | null; output: string };
}

const files = modelFiles();
const snapshot = (): string =>
  path.join(
    cache.repository('org/model'),
    'snapshots',
    server.repositories.get('org/model')!.resolve('main')!,
  );

describe('a pull at the terminal', () => {
  it('says what comes, draws a bar, and takes it down', async () => {
    server.add('org/model', files);
    server.faults.add(({ host }) => host === 'cdn', {
      kind: 'slow',
      chunkBytes: 16_384,
      pauseMs: 10,
    });
    const { code, output } = await session([]);
    expect(code).toBe(0);
    expect(output).toContain(`org/model: ${files.length} files, `);
    expect(output).toMatch(/\d+ % of [\d.]+KB \| [\d.]+(K|M)?B\/s/);
    expect(output.trimEnd()).toMatch(/pull: org\/model — downloaded to [^\n]+$/);
    expect(output.lastIndexOf('\x1b[?25h')).toBeGreaterThan(output.lastIndexOf('\x1b[?25l'));
  });

  it('stopped by Ctrl-C gives the terminal back and says how to go on', async () => {
    server.add('org/model', files);
    server.faults.add(({ host }) => host === 'cdn', {
      kind: 'slow',
      chunkBytes: 4096,
      pauseMs: 20,
    });
    const { code, output } = await session([{ wait: ' % of ' }, { send: '\u0003' }]);
    expect(code).toBe(130);
    expect(output).toContain('interrupted: "mlxk pull org/model" goes on from here');
    expect(output.lastIndexOf('\x1b[?25h')).toBeGreaterThan(output.lastIndexOf('\x1b[?25l'));
    server.faults.clear();
    expect((await cache.json(['pull', 'org/model'])).code).toBe(0);
    expect(wrongIn(snapshot(), files)).toEqual([]);
    expect(straysIn(cache.hub)).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGHUP'] as const)('ended by %s gives it back too', async (name) => {
    server.add('org/model', files);
    const slow = { kind: 'slow', chunkBytes: 4096, pauseMs: 20 } as const;
    server.faults.add(({ host }) => host === 'cdn', slow);
    const { signal, output } = await session([{ wait: ' % of ' }, { signal: name }]);
    expect(signal).toBe(os.constants.signals[name]);
    expect(output.lastIndexOf('\x1b[?25h')).toBeGreaterThan(output.lastIndexOf('\x1b[?25l'));
  });

  describe('of an unhealthy model', () => {
    beforeEach(async () => {
      server.add('org/model', files);
      await cache.json(['pull', 'org/model']);
      unlinkSync(path.join(snapshot(), 'model-00002-of-00003.safetensors'));
    });

    it.each(['\r', 'y\r', 'YES\r'])('answered with %j completes it', async (answer) => {
      const { code, output } = await session([
        { wait: 'Resume download? [Y/n] ' },
        { send: answer },
      ]);
      expect(output).toContain('org/model is unhealthy: Missing weight shards: model-00002');
      expect(code).toBe(0);
      expect(wrongIn(snapshot(), files)).toEqual([]);
    });

    it.each(['n\r', 'what?\r', '\u0004'])('answered with %j leaves it', async (answer) => {
      server.reset();
      const { code, output } = await session([
        { wait: 'Resume download? [Y/n] ' },
        { send: answer },
      ]);
      expect(output).toContain('Nothing was downloaded.');
      expect(code).toBe(0);
      expect(server.requests).toEqual([]);
    });
  });
});
