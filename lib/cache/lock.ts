/**
 * The hub's locks: `flock` on a file under `.locks`, which is what Python's filelock takes. The kernel gives a lock
 * back when its holder dies. No result depends on it: it saves fetching the same bytes twice, and lets the partial
 * file of a dead process be taken over.
 */

import { close, constants, fchmod, fstat, open, stat } from 'node:fs';
import { mkdir, unlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

import type Koffi from 'koffi';

const POLL_MS = 100;
/** As the hub's own client makes them, so that a group can share a cache. */
const MODE = 0o664;
/** The same on Linux and macOS. */
const LOCK_EX = 2;
const LOCK_NB = 4;

const files = {
  open: promisify(open),
  close: promisify(close),
  fstat: promisify(fstat),
  fchmod: promisify(fchmod),
  stat: promisify(stat),
};

type Flock = (fd: number) => 'taken' | 'held' | 'unsupported';

export interface Lock {
  /** Whether this lock keeps others out; on some network file systems none does. */
  readonly excludes: boolean;
  release(): Promise<void>;
}

/**
 * Takes the lock `file`; waits while another process, or another call here, holds it.
 *
 * @param onWait Called once when there is something to wait for.
 */
export async function acquireLock(
  file: string,
  signal: AbortSignal,
  onWait?: () => void,
): Promise<Lock> {
  await mkdir(path.dirname(file), { recursive: true });
  for (let waited = false; ; waited = true) {
    const lock = await tryLock(file);
    if (lock !== undefined) return lock;
    if (!waited) onWait?.();
    await wait(POLL_MS, undefined, { signal });
  }
}

/** The lock, or `undefined` when somebody holds it. The folder of `file` has to be there. */
export async function tryLock(file: string): Promise<Lock | undefined> {
  const flock = systemFlock();
  if (flock === undefined) return NO_LOCK;
  const { fd, created } = await openLockFile(file);
  try {
    const result = flock(fd);
    if (result === 'unsupported') {
      // There the hub's client takes the file itself for the lock: ours must not stay.
      if (created) await unlink(file).catch(() => undefined);
      await files.close(fd);
      return NO_LOCK;
    }
    if (result === 'held' || !(await isNamed(fd, file))) {
      await files.close(fd);
      return undefined;
    }
    return {
      excludes: await excludesOthers(file, flock),
      release: () => files.close(fd), // Closing gives the lock back.
    };
  } catch (error) {
    await files.close(fd).catch(() => undefined);
    throw error;
  }
}

async function openLockFile(file: string): Promise<{ fd: number; created: boolean }> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    const fd = await files.open(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
    await files.fchmod(fd, MODE).catch(() => undefined); // The umask takes the group's bit.
    return { fd, created: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return { fd: await files.open(file, O_RDWR | O_CREAT | O_NOFOLLOW, MODE), created: false };
  }
}

const NO_LOCK: Lock = { excludes: false, release: () => Promise.resolve() };

/** A file that was removed between being opened and being locked locks nothing. */
async function isNamed(fd: number, file: string): Promise<boolean> {
  const [held, named] = await Promise.all([
    files.fstat(fd),
    files.stat(file).catch(() => undefined),
  ]);
  return named !== undefined && named.ino === held.ino && named.dev === held.dev;
}

/** Some mounts grant every lock. A second one on the same file tells. */
async function excludesOthers(file: string, flock: Flock): Promise<boolean> {
  const second = await files.open(file, constants.O_RDWR).catch(() => undefined);
  if (second === undefined) return false;
  const result = flock(second);
  await files.close(second);
  return result === 'held';
}

let known: Flock | undefined | 'none';

/** Node has no `flock`; the C library is called through koffi. */
function systemFlock(): Flock | undefined {
  known ??= loadFlock() ?? 'none';
  return known === 'none' ? undefined : known;
}

function loadFlock(): Flock | undefined {
  const library = { linux: 'libc.so.6', darwin: 'libSystem.B.dylib' }[process.platform as string];
  if (library === undefined) return undefined;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const flock = koffi.load(library).func('int flock(int fd, int operation)') as (
      fd: number,
      operation: number,
    ) => number;
    const { EAGAIN, EACCES, EINTR } = koffi.os.errno;
    return (fd) => {
      for (;;) {
        if (flock(fd, LOCK_EX | LOCK_NB) === 0) return 'taken';
        const errno = koffi.errno();
        if (errno === EAGAIN || errno === EACCES) return 'held';
        if (errno !== EINTR) return 'unsupported';
      }
    };
  } catch {
    return undefined; // No koffi for this platform, or another C library: as on a file system without locks.
  }
}
