/**
 * The files of one model, read only: a listing made once and the small JSON files in it. Every question about a
 * model's files (health, type, size) is asked of one of these, so that a file is looked at once.
 *
 * Reads are synchronous: a model is a dozen small files, for which a round trip through the thread pool costs ten
 * times the system call. Who reads many models lets the event loop run between them.
 */

import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';

import { statsOf } from './layout.js';

export interface FolderFile {
  /** Path inside the folder, with `/`. */
  readonly name: string;
  /** Bytes of the file, links followed; -1 for a link that leads nowhere. */
  readonly size: number;
}

/** Content of a JSON file that is meant to hold an object. */
export type JsonFile =
  | { readonly state: 'missing' | 'unreadable' | 'not-json' | 'no-object' }
  | { readonly state: 'object'; readonly value: Readonly<Record<string, unknown>> };

/** The largest known index of shards has 9 MB, and nothing else that is parsed comes near it. */
const MAX_JSON_BYTES = 64 * 2 ** 20;
/** The largest known tokenizer.json has 33 MB. */
const MAX_SEARCHED_BYTES = 256 * 2 ** 20;

/** Folders inside a workspace that are no part of the model. */
const FOREIGN_FOLDERS = new Set(['.git', '.hf_cache']);

export class ModelFolder {
  readonly folder: string;
  /** Every file below the folder, sorted by name. Linked folders are not entered. */
  readonly files: readonly FolderFile[];
  readonly #byName: ReadonlyMap<string, FolderFile>;
  readonly #json = new Map<string, JsonFile>();

  /** @param folder a snapshot or a workspace; one that does not exist has no files. */
  constructor(folder: string) {
    this.folder = folder;
    const files = [...filesBelow(folder, '')];
    this.files = files.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#byName = new Map(this.files.map((file) => [file.name, file]));
  }

  /** A file whose content can be had; links that lead nowhere have none. */
  file(name: string): FolderFile | undefined {
    const file = this.#byName.get(name);
    return file !== undefined && file.size >= 0 ? file : undefined;
  }

  has(name: string): boolean {
    return this.file(name) !== undefined;
  }

  /** Whether a file of this name lies in the folder or anywhere below it. */
  hasAnywhere(basename: string): boolean {
    return this.files.some((file) => path.posix.basename(file.name) === basename && file.size >= 0);
  }

  get sizeBytes(): number {
    return this.files.reduce((sum, { size }) => sum + Math.max(0, size), 0);
  }

  /** An object in a JSON file; parsed once. */
  json(name: string): JsonFile {
    let content = this.#json.get(name);
    if (content === undefined) {
      content = this.#readJson(name);
      this.#json.set(name, content);
    }
    return content;
  }

  /** Members of a JSON file's object; none when it is not there or broken. */
  members(name: string): Readonly<Record<string, unknown>> {
    const content = this.json(name);
    return content.state === 'object' ? content.value : {};
  }

  /** The first bytes of a file; empty when it cannot be read. */
  start(name: string, bytes: number): Buffer {
    const buffer = Buffer.allocUnsafe(Math.min(bytes, Math.max(0, this.file(name)?.size ?? 0)));
    try {
      const handle = openSync(path.join(this.folder, name), 'r');
      try {
        return buffer.subarray(0, readSync(handle, buffer, 0, buffer.length, 0));
      } finally {
        closeSync(handle);
      }
    } catch {
      return Buffer.alloc(0); // Health tells what cannot be read; here it only has no such start.
    }
  }

  /** A file's bytes to look for a text in; empty when it is not there, too long, or cannot be read. */
  bytes(name: string): Buffer {
    const file = this.file(name);
    if (file === undefined || file.size > MAX_SEARCHED_BYTES) return Buffer.alloc(0);
    try {
      return readFileSync(path.join(this.folder, name));
    } catch {
      return Buffer.alloc(0);
    }
  }

  #readJson(name: string): JsonFile {
    const file = this.file(name);
    if (file === undefined) return { state: 'missing' };
    if (file.size > MAX_JSON_BYTES) return { state: 'unreadable' };
    let text: string;
    try {
      text = readFileSync(path.join(this.folder, name), 'utf8');
    } catch {
      return { state: 'unreadable' };
    }
    let value: unknown;
    try {
      value = JSON.parse(text.replace(/^\ufeff/, ''));
    } catch {
      return { state: 'not-json' };
    }
    return isObject(value) ? { state: 'object', value } : { state: 'no-object' };
  }
}

/** Whether a value of a JSON file is an object, not a list. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function* filesBelow(root: string, below: string): Generator<FolderFile> {
  for (const entry of entriesOf(path.join(root, below))) {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) {
      if (!FOREIGN_FOLDERS.has(entry.name)) yield* filesBelow(root, name);
    } else if (entry.isFile() || entry.isSymbolicLink()) {
      const stats = statsOf(path.join(root, name));
      if (stats === undefined) yield { name, size: -1 };
      else if (stats.isFile()) yield { name, size: stats.size };
    }
  }
}

/** Entries of a folder; none where it is not there or may not be read. */
function entriesOf(folder: string): ReturnType<typeof readDirents> {
  try {
    return readDirents(folder);
  } catch {
    return [];
  }
}

function readDirents(folder: string) {
  return readdirSync(folder, { withFileTypes: true });
}
