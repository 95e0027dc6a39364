/**
 * `.mlxk_workspace.json`, the file that makes a folder a managed workspace: where it came from, what was done, and its
 * content hash. Numbers keep their digits (file times have 19 of them) and fields of other versions are kept.
 * Reading never throws: a sentinel that cannot be used is none.
 */

import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { isLosslessNumber, LosslessNumber, parse, stringify } from 'lossless-json';

import { packageVersion } from '../package-info.js';

export const SENTINEL_NAME = '.mlxk_workspace.json';

/** What a sentinel of a file index of some thousand entries never reaches. */
const MAX_SENTINEL_BYTES = 64 * 2 ** 20;

/** A file as it was when the hash was pinned. */
export interface FileEntry {
  /** Relative, `/` between the parts, Unicode NFC. */
  readonly path: string;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  /** `sha256:<hex>`. */
  readonly sha: string;
}

/** The fields this program reads and writes; others are kept in `Sentinel.raw`. */
export interface SentinelFields {
  readonly operation: 'clone' | 'convert';
  /** Hub id, or the name of the folder it was made from; never an absolute path. */
  readonly source_repo: string | null;
  readonly source_revision: string | null;
  readonly mode?: string;
  readonly quantization?: Readonly<Record<string, unknown>>;
}

export class Sentinel {
  readonly raw: Record<string, unknown>;

  private constructor(raw: Record<string, unknown>) {
    this.raw = raw;
  }

  static create(fields: SentinelFields): Sentinel {
    return new Sentinel({
      mlxk_version: packageVersion(),
      created_at: timestamp(),
      ...fields,
      managed: true,
    });
  }

  /** The sentinel of a folder when it says `managed: true`; `undefined` for anything else. */
  static async read(folder: string): Promise<Sentinel | undefined> {
    try {
      const text = await readFile(path.join(folder, SENTINEL_NAME));
      if (text.length > MAX_SENTINEL_BYTES) return undefined;
      const raw = parse(text.toString('utf8'));
      if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return undefined;
      const fields = raw as Record<string, unknown>;
      return fields['managed'] === true ? new Sentinel(fields) : undefined;
    } catch {
      return undefined; // Missing, unreadable or broken: the folder is an unmanaged workspace.
    }
  }

  /** Written whole or not at all. */
  async write(folder: string): Promise<void> {
    const file = path.join(folder, SENTINEL_NAME);
    const temporary = `${file}.${process.pid}.tmp`; // Excluded from the hash by its ending.
    try {
      await writeFile(temporary, `${stringify(this.raw, null, 2) ?? ''}\n`);
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  get sourceRepo(): string | null {
    return textOrNull(this.raw['source_repo']);
  }

  get sourceRevision(): string | null {
    return textOrNull(this.raw['source_revision']);
  }

  get contentHash(): string | null {
    return textOrNull(this.raw['content_hash']);
  }

  get hashModified(): string | null {
    return textOrNull(this.raw['hash_modified']);
  }

  get isHashV2(): boolean {
    return this.raw['hash_algorithm'] === 'v2';
  }

  /** Patterns frozen into this workspace; `undefined` when it has none yet. */
  get exclusions(): readonly string[] | undefined {
    const patterns = this.raw['exclude_patterns'];
    return Array.isArray(patterns) && patterns.every((p): p is string => typeof p === 'string')
      ? patterns
      : undefined;
  }

  /** The pinned files; `undefined` when there are none or any entry is not to be trusted. */
  get files(): FileEntry[] | undefined {
    const index = this.raw['file_index'];
    if (!Array.isArray(index)) return undefined;
    const files = index.map(readEntry);
    return files.every((entry) => entry !== undefined) ? files : undefined;
  }

  setFiles(entries: readonly FileEntry[]): void {
    this.raw['file_index'] = entries.map((entry) => ({
      path: entry.path,
      size: new LosslessNumber(String(entry.size)),
      mtime_ns: new LosslessNumber(String(entry.mtimeNs)),
      sha: entry.sha,
    }));
  }

  /** Pins a hash and the files it was made of. */
  pin(hash: string, files: readonly FileEntry[], exclusions: readonly string[]): void {
    this.raw['hash_algorithm'] = 'v2';
    this.raw['content_hash'] = hash;
    this.raw['hash_modified'] = timestamp();
    this.raw['exclude_patterns'] = [...exclusions];
    this.setFiles(files);
  }
}

function timestamp(): string {
  return new Date().toISOString();
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function readEntry(value: unknown): FileEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const entry = value as Record<string, unknown>;
  const size = wholeNumber(entry['size']);
  const mtimeNs = wholeNumber(entry['mtime_ns']);
  const { path: file, sha } = entry;
  if (typeof file !== 'string' || typeof sha !== 'string' || !staysInside(file)) return undefined;
  return size === undefined || mtimeNs === undefined
    ? undefined
    : { path: file, size, mtimeNs, sha };
}

function wholeNumber(value: unknown): bigint | undefined {
  if (!isLosslessNumber(value) || !/^-?\d{1,30}$/.test(value.value)) return undefined;
  return BigInt(value.value);
}

/** A path of a sentinel is somebody else's text: none that is absolute or climbs is ever opened. */
function staysInside(file: string): boolean {
  return (
    file !== '' &&
    !/[\0\\]/.test(file) &&
    !file.startsWith('/') &&
    file[1] !== ':' &&
    !file.split('/').includes('..')
  );
}
