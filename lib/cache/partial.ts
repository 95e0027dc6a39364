/**
 * A blob on its way: one file `<blob>.<8 hex>.incomplete`, named as the hub's own client names its own. The content
 * stands at its place from the start; behind its end follows a map with one byte for each piece that is there. So a
 * process may die at any moment and the next one loses no more than the pieces in flight. Knows no network.
 */

import { type Hash, randomBytes } from 'node:crypto';
import { type FileHandle, lstat, open, readdir, rename, unlink } from 'node:fs/promises';
import path from 'node:path';

import { hashFor } from '../hub/content-hash.js';

const SUFFIX = '.incomplete';
const MAGIC = Buffer.from('mlxk-partial-1\n\0');
/** Magic, size of a piece, size of the content. */
const HEADER_BYTES = MAGIC.length + 8 + 8;
const READ_BYTES = 1 << 20;
/** No map of ours comes near it. */
const MAX_PIECES = 1 << 24;

export interface Piece {
  readonly index: number;
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

export interface PartialOptions {
  /** The folder `blobs`. */
  readonly folder: string;
  /** Name of the blob: 40 or 64 hexadecimal digits, which say how it is hashed. */
  readonly blob: string;
  /** Of the whole content. */
  readonly bytes: number;
  readonly pieceBytes: number;
  /** Whether what others left behind is dead for certain, so that it may be taken over. */
  readonly alone: boolean;
}

export class Partial {
  readonly options: PartialOptions;
  readonly #handle: FileHandle;
  #file: string;
  #pieceBytes: number;
  /** Bytes that are there, from the start of each piece. */
  #have: number[] = [];
  #haveBytes = 0;
  #hash: Hash;
  #hashed = 0;
  #hashing: Promise<void> = Promise.resolve();
  /** Whether bytes are here that this object did not write. */
  resumed = false;

  private constructor(options: PartialOptions, handle: FileHandle, file: string) {
    this.options = options;
    this.#handle = handle;
    this.#file = file;
    this.#pieceBytes = options.pieceBytes;
    this.#hash = hashFor(options.blob, options.bytes);
  }

  /** Takes over what an earlier download left, if it can, else starts anew. */
  static async open(options: PartialOptions): Promise<Partial> {
    const { folder, blob, alone } = options;
    const own = path.join(folder, `${blob}.${randomBytes(4).toString('hex')}${SUFFIX}`);
    const found = alone ? await leftovers(options) : [];
    const [best, ...others] = found;
    for (const other of others) await unlink(other.file);
    if (best !== undefined) await rename(best.file, own);
    const handle = await open(own, best === undefined ? 'wx+' : 'r+');
    const partial = new Partial(options, handle, own);
    try {
      if (best === undefined) await partial.#begin(options.pieceBytes);
      else await partial.#resume(best);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return partial;
  }

  /** Bytes that need not be fetched. */
  get haveBytes(): number {
    return this.#haveBytes;
  }

  /** What is missing: of each piece the part that is not there yet. */
  missing(): Piece[] {
    return this.#have.flatMap((have, index) => {
      const { start, end } = this.#piece(index);
      return start + have < end ? [{ index, start: start + have, end }] : [];
    });
  }

  /** Puts the bytes that follow those of a piece that are there. */
  async write(index: number, chunk: Uint8Array): Promise<void> {
    const { start, end } = this.#piece(index);
    const at = start + (this.#have[index] ?? 0);
    if (at + chunk.length > end) throw new RangeError('more bytes than the piece has');
    for (let written = 0; written < chunk.length;) {
      const { bytesWritten } = await this.#handle.write(
        chunk,
        written,
        chunk.length - written,
        at + written,
      );
      written += bytesWritten;
    }
    this.#have[index] = at + chunk.length - start;
    this.#haveBytes += chunk.length;
    if (at + chunk.length === end) await this.#complete(index);
  }

  /** Forgets all content. With one piece as long as the whole, for a server that gives no ranges. */
  async restart(pieceBytes = this.#pieceBytes): Promise<void> {
    await this.#hashing;
    await this.#handle.truncate(0);
    await this.#begin(pieceBytes);
  }

  /** Hash of the content as it lies on the disk, once all of it does. */
  async digest(): Promise<string> {
    await this.#hashing;
    if (this.#hashed !== this.options.bytes) throw new Error('the content is not whole');
    return this.#hash.copy().digest('hex');
  }

  /** Gives the whole content its name. */
  async publish(destination: string): Promise<void> {
    await this.#handle.truncate(this.options.bytes);
    await this.#handle.datasync();
    await this.#handle.close();
    await rename(this.#file, destination);
  }

  /** Lets go of the file; `keep` leaves it for a later download to resume. */
  async close(keep: boolean): Promise<void> {
    await this.#hashing.catch(() => undefined);
    await this.#handle.close().catch(() => undefined);
    if (!keep) await unlink(this.#file).catch(() => undefined);
  }

  #piece(index: number): Piece {
    const start = index * this.#pieceBytes;
    return { index, start, end: Math.min(this.options.bytes, start + this.#pieceBytes) };
  }

  /** @param thereBytes content that is there already, from the start. */
  async #begin(pieceBytes: number, thereBytes = 0): Promise<void> {
    const { bytes } = this.options;
    this.#pieceBytes = Math.max(1, pieceBytes);
    this.#hash = hashFor(this.options.blob, this.options.bytes);
    this.#hashed = 0;
    this.#have = new Array<number>(Math.ceil(bytes / this.#pieceBytes)).fill(0);
    this.#have = this.#have.map((_, index) => {
      const { start, end } = this.#piece(index);
      return Math.max(0, Math.min(thereBytes, end) - start);
    });
    this.#haveBytes = thereBytes;
    this.resumed = thereBytes > 0;
    const done = this.#have.map(
      (have, index) => have === this.#piece(index).end - this.#piece(index).start,
    );
    // In one call, so that no moment sees a map that says less than was known.
    const map = Buffer.concat([headerOf(bytes, this.#pieceBytes), Buffer.from(done.map(Number))]);
    await this.#handle.write(map, 0, map.length, bytes);
  }

  async #resume(found: Leftover): Promise<void> {
    if (found.map === undefined) {
      if (found.bytes === 0) await this.#handle.truncate(0);
      await this.#begin(this.options.pieceBytes, found.bytes);
    } else {
      this.#pieceBytes = found.map.pieceBytes;
      this.#have = found.map.done.map((done, index) => {
        const { start, end } = this.#piece(index);
        return done ? end - start : 0;
      });
      this.#haveBytes = this.#have.reduce((sum, bytes) => sum + bytes, 0);
      this.resumed = this.#haveBytes > 0;
    }
    this.#advance();
  }

  async #complete(index: number): Promise<void> {
    await this.#handle.write(Buffer.of(1), 0, 1, this.options.bytes + HEADER_BYTES + index);
    this.#advance();
  }

  /** Hashes what is there without a gap, from the disk, behind the pieces as they come. */
  #advance(): void {
    this.#hashing = this.#hashing.then(async () => {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, Math.max(1, this.options.bytes)));
      while (this.#hashed < this.options.bytes) {
        const index = Math.floor(this.#hashed / this.#pieceBytes);
        const { start, end } = this.#piece(index);
        if (start + (this.#have[index] ?? 0) < end) return;
        const length = Math.min(buffer.length, end - this.#hashed);
        const { bytesRead } = await this.#handle.read(buffer, 0, length, this.#hashed);
        if (bytesRead === 0) throw new Error(`${this.#file} was cut short`);
        this.#hash.update(buffer.subarray(0, bytesRead));
        this.#hashed += bytesRead;
      }
    });
    this.#hashing.catch(() => undefined); // Whoever asks for the digest is told.
  }
}

interface Leftover {
  readonly file: string;
  /** Bytes of content that can be there. */
  readonly bytes: number;
  /** Of our own; others write from the start to the end. */
  readonly map: { readonly pieceBytes: number; readonly done: boolean[] } | undefined;
}

/** What earlier downloads of this blob left, the fullest first. */
async function leftovers(options: PartialOptions): Promise<Leftover[]> {
  const { folder, blob, bytes } = options;
  const names = (await readdir(folder)).filter(
    (name) => name.startsWith(`${blob}.`) && name.endsWith(SUFFIX),
  );
  const found = await Promise.all(
    names.map(async (name): Promise<Leftover | undefined> => {
      const file = path.join(folder, name);
      const stats = await lstat(file).catch(() => undefined);
      if (stats?.isFile() !== true) return undefined;
      const map = await readMap(file, bytes);
      const there = map?.done.filter(Boolean).length ?? 0;
      // Longer than the content and without a map is nothing that anybody wrote on purpose.
      const prefix = stats.size > bytes ? 0 : stats.size;
      return { file, map, bytes: map === undefined ? prefix : there * map.pieceBytes };
    }),
  );
  return found.filter((entry) => entry !== undefined).sort((a, b) => b.bytes - a.bytes);
}

async function readMap(file: string, bytes: number): Promise<Leftover['map']> {
  const handle = await open(file, 'r');
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await handle.read(header, 0, HEADER_BYTES, bytes);
    if (bytesRead < HEADER_BYTES) return undefined;
    const pieceBytes = Number(header.readBigUInt64LE(MAGIC.length));
    if (pieceBytes < 1 || !Number.isSafeInteger(pieceBytes)) return undefined;
    if (!header.equals(headerOf(bytes, pieceBytes))) return undefined;
    const pieces = Math.ceil(bytes / pieceBytes);
    if (pieces > MAX_PIECES) return undefined;
    const map = Buffer.alloc(pieces);
    await handle.read(map, 0, map.length, bytes + HEADER_BYTES);
    return { pieceBytes, done: [...map].map((byte) => byte === 1) };
  } finally {
    await handle.close();
  }
}

function headerOf(bytes: number, pieceBytes: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeBigUInt64LE(BigInt(pieceBytes), MAGIC.length);
  header.writeBigUInt64LE(BigInt(bytes), MAGIC.length + 8);
  return header;
}
