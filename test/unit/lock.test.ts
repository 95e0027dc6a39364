import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync, unlinkSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { acquireLock, tryLock } from '../../lib/cache/lock.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const never = new AbortController().signal;
let file: string;
beforeEach(() => {
  file = path.join(temporaryFolder(), 'locks', 'blob.lock');
});
afterEach(removeTemporaryFolders);

describe('a lock', () => {
  it('is held by one, and free again when that one lets go', async () => {
    const lock = await acquireLock(file, never);
    expect(lock.excludes).toBe(true);
    expect(await tryLock(file)).toBeUndefined();
    await lock.release();
    const next = await tryLock(file);
    expect(next?.excludes).toBe(true);
    await next?.release();
  });

  it('is waited for, and had when it is free', async () => {
    const lock = await acquireLock(file, never);
    let waiting = (): void => undefined;
    const waits = new Promise<void>((resolve) => (waiting = resolve));
    const second = acquireLock(file, never, waiting);
    await waits;
    await lock.release();
    await (await second).release();
  });

  it('is given up waiting for when that is wanted', async () => {
    const lock = await acquireLock(file, never);
    const stopping = new AbortController();
    const second = acquireLock(file, stopping.signal, () => {
      stopping.abort();
    });
    await expect(second).rejects.toMatchObject({ name: 'AbortError' });
    await lock.release();
  });

  it('of a process that dies is free', async () => {
    const program = `import fcntl, sys, time
f = open(sys.argv[1], "a"); fcntl.flock(f, fcntl.LOCK_EX); print("held", flush=True); time.sleep(60)`;
    await (await acquireLock(file, never)).release();
    const holder = spawn('python3', ['-c', program, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    expect(await tryLock(file)).toBeUndefined();
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const lock = await acquireLock(file, never);
    expect(lock.excludes).toBe(true);
    await lock.release();
  });

  it('on a file that was removed meanwhile is none', async () => {
    const first = await acquireLock(file, never);
    unlinkSync(file);
    const second = await acquireLock(file, never);
    expect(await tryLock(file)).toBeUndefined();
    await first.release();
    expect(await tryLock(file)).toBeUndefined();
    await second.release();
  });

  it('is a file that a group may write to, as the hub makes it', async () => {
    await (await acquireLock(file, never)).release();
    expect(statSync(file).mode & 0o777).toBe(0o664);
  });

  it('cannot be made where a folder is in its place', async () => {
    mkdirSync(file, { recursive: true });
    await expect(acquireLock(file, never)).rejects.toMatchObject({ code: 'EISDIR' });
  });
});
