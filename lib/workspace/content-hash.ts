/**
 * Content hash v2 of a workspace, and the cheap check whether it still holds (mlx-knife ADR-025). Of weights only the
 * safetensors header counts, so that hashing a model reads kilobytes; everything else counts byte by byte.
 * A hash that cannot be computed is `undefined`, never a guess.
 */

import { createHash } from 'node:crypto';
import { createReadStream, type Dirent } from 'node:fs';
import { access, lstat, open, readdir, realpath } from 'node:fs/promises';
import path from 'node:path';

import { DEFAULT_EXCLUSIONS, Exclusions } from './exclusions.js';
import { type FileEntry, Sentinel } from './sentinel.js';

/** A larger file other than safetensors counts by its name and size. */
const MAX_READ_BYTES = 2n ** 30n;
const MAX_HEADER_BYTES = 100n * 2n ** 20n;
const HEADER_LENGTH_BYTES = 8;

export interface ContentHash {
  /** `sha256:<hex>`. */
  readonly hash: string;
  readonly files: FileEntry[];
}

/** Whether a workspace is as it was pinned; `null` when that cannot be told. */
export type Clean = boolean | null;

/**
 * Hashes a workspace.
 *
 * @returns `undefined` without config.json, with a link that leaves the folder, a broken safetensors header, or a file
 * that cannot be read.
 */
export async function contentHash(
  folder: string,
  patterns: readonly string[] = DEFAULT_EXCLUSIONS,
): Promise<ContentHash | undefined> {
  try {
    const root = await realpath(folder);
    await access(path.join(root, 'config.json'));
    const files: FileEntry[] = [];
    for await (const found of walk(root, new Exclusions(patterns))) {
      const sha = found.link ? await shaOfLink(root, found.absolute) : await shaOf(found.absolute);
      if (sha === undefined) return undefined;
      const { size, mtimeNs } = found.link
        ? { size: 0n, mtimeNs: 0n }
        : await lstat(found.absolute, { bigint: true });
      files.push({ path: found.path, size, mtimeNs, sha });
    }
    files.sort((a, b) => byCodePoint(a.path, b.path));
    return { hash: aggregate(files), files };
  } catch {
    return undefined; // Unreadable or gone meanwhile.
  }
}

/**
 * Hashes a managed workspace anew and pins the result. Its own exclusions stay; a v1 sentinel becomes v2.
 *
 * @returns the hash, or `undefined` when the folder is unmanaged or cannot be hashed; nothing is written then.
 */
export async function pinContentHash(folder: string): Promise<string | undefined> {
  const sentinel = await Sentinel.read(folder);
  if (sentinel === undefined) return undefined;
  const patterns = sentinel.exclusions ?? DEFAULT_EXCLUSIONS;
  const content = await contentHash(folder, patterns);
  if (content === undefined) return undefined;
  sentinel.pin(content.hash, content.files, patterns);
  await sentinel.write(folder);
  return content.hash;
}

/**
 * Compares a workspace with its sentinel by names, sizes and times; only a file whose time alone moved is read. Where
 * such a file is the same, its new time is written into the sentinel.
 *
 * @returns `null` without a sentinel of hash v2 whose paths can be trusted.
 */
export async function isClean(folder: string): Promise<Clean> {
  const sentinel = await Sentinel.read(folder);
  const pinned = sentinel?.files;
  if (sentinel === undefined || pinned === undefined || !sentinel.isHashV2) return null;
  try {
    const root = await realpath(folder);
    const healed = await compare(root, pinned, sentinel.exclusions ?? DEFAULT_EXCLUSIONS);
    if (healed === undefined) return false;
    if (healed.length > 0) {
      const times = new Map(healed.map((entry) => [entry.path, entry]));
      sentinel.setFiles(pinned.map((entry) => times.get(entry.path) ?? entry));
      await sentinel.write(root).catch(() => undefined); // A read-only workspace is as clean.
    }
    return true;
  } catch {
    return false; // A file that cannot be examined is not as it was.
  }
}

/** The entries whose time is to be healed; `undefined` when anything differs. */
async function compare(
  root: string,
  pinned: readonly FileEntry[],
  patterns: readonly string[],
): Promise<FileEntry[] | undefined> {
  const expected = new Map(pinned.map((entry) => [entry.path, entry]));
  const healed: FileEntry[] = [];
  for await (const found of walk(root, new Exclusions(patterns))) {
    const entry = expected.get(found.path);
    if (entry === undefined) return undefined;
    expected.delete(found.path);
    if (found.link) {
      if ((await shaOfLink(root, found.absolute)) !== entry.sha) return undefined;
      continue;
    }
    const { size, mtimeNs } = await lstat(found.absolute, { bigint: true });
    if (size !== entry.size) return undefined;
    if (mtimeNs === entry.mtimeNs) continue;
    if ((await shaOf(found.absolute)) !== entry.sha) return undefined;
    healed.push({ ...entry, mtimeNs });
  }
  return expected.size === 0 ? healed : undefined;
}

interface Found {
  readonly path: string;
  readonly absolute: string;
  readonly link: boolean;
}

/** Files and links below a folder. Links are never followed, and none is excluded: where they lead is a matter of trust. */
async function* walk(root: string, exclusions: Exclusions): AsyncGenerator<Found> {
  const open: { absolute: string; relative: string }[] = [{ absolute: root, relative: '' }];
  for (let folder = open.pop(); folder !== undefined; folder = open.pop()) {
    const entries: Dirent[] = await readdir(folder.absolute, { withFileTypes: true });
    for (const entry of entries) {
      const name = entry.name.normalize('NFC');
      const absolute = path.join(folder.absolute, entry.name);
      const relative = folder.relative === '' ? name : `${folder.relative}/${name}`;
      if (entry.isSymbolicLink()) yield { path: relative, absolute, link: true };
      else if (entry.isDirectory()) {
        if (!exclusions.folder(name)) open.push({ absolute, relative });
      } else if (entry.isFile() && !exclusions.file(name)) {
        yield { path: relative, absolute, link: false };
      }
    }
  }
}

async function shaOf(file: string): Promise<string | undefined> {
  const name = path.basename(file);
  if (name.endsWith('.safetensors')) return await shaOfHeader(file);
  const { size } = await lstat(file, { bigint: true });
  const hash = createHash('sha256');
  if (size > MAX_READ_BYTES) return named(hash.update(`${name}\0${size}`).digest('hex'));
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
  return named(hash.digest('hex'));
}

async function shaOfHeader(file: string): Promise<string | undefined> {
  const handle = await open(file, 'r');
  try {
    const prefix = Buffer.alloc(HEADER_LENGTH_BYTES);
    const { bytesRead } = await handle.read(prefix, 0, HEADER_LENGTH_BYTES, 0);
    if (bytesRead < HEADER_LENGTH_BYTES) return undefined;
    const length = prefix.readBigUInt64LE();
    const { size } = await handle.stat({ bigint: true });
    if (length === 0n || length > MAX_HEADER_BYTES) return undefined;
    if (BigInt(HEADER_LENGTH_BYTES) + length > size) return undefined;
    const header = Buffer.alloc(Number(length));
    const read = await handle.read(header, 0, header.length, HEADER_LENGTH_BYTES);
    if (read.bytesRead < header.length) return undefined;
    return named(createHash('sha256').update(header).digest('hex'));
  } finally {
    await handle.close();
  }
}

/** By where the link leads, when that is a thing inside the workspace. */
async function shaOfLink(root: string, link: string): Promise<string | undefined> {
  const target = await realpath(link).catch(() => undefined);
  if (target === undefined) return undefined;
  const relative = path.relative(root, target);
  if (relative === '..' || relative.startsWith(`..${path.sep}`) || path.isAbsolute(relative)) {
    return undefined;
  }
  const parts = relative === '' ? '.' : relative.split(path.sep).join('/');
  return named(createHash('sha256').update(`SYMLINK\0${parts}`).digest('hex'));
}

function aggregate(files: readonly FileEntry[]): string {
  const hash = createHash('sha256');
  for (const { path: file, sha } of files) hash.update(`${file}\0${sha}`);
  return named(hash.digest('hex'));
}

function named(hex: string): string {
  return `sha256:${hex}`;
}

/** The order of UTF-8 bytes; JavaScript's own compares UTF-16 units. */
function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
