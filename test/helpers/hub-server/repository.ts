/**
 * A model repository as the hub sees it: files, commits, branches. Knows nothing of HTTP.
 */

import { createHash } from 'node:crypto';

/** A file of one commit. */
export interface HubFile {
  readonly path: string;
  readonly content: Buffer;
  /** SHA-256 of the content when it is kept outside Git, else `undefined`. */
  readonly lfs: string | undefined;
  /** Git's name of the blob: of the content, or of the pointer that stands for it. */
  readonly oid: string;
  /** What the listing and the headers say; the truth unless a test lies. */
  readonly size: number;
}

export interface FileOptions {
  /** Keep it outside Git, as the hub does with weights. Default: by the file's name. */
  readonly lfs?: boolean;
  /** A size to claim in place of the true one. */
  readonly claimedSize?: number;
  /** Bytes to deliver in place of those the names are made of. */
  readonly delivered?: Buffer;
}

const LFS_NAMES = /\.(safetensors|bin|gguf|model)$/;

export function hubFile(
  path: string,
  content: string | Buffer,
  { lfs = LFS_NAMES.test(path), claimedSize, delivered }: FileOptions = {},
): HubFile {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(content);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${bytes.length}\n`;
  return {
    path,
    content: delivered ?? bytes,
    lfs: lfs ? sha256 : undefined,
    oid: gitBlobHash(lfs ? Buffer.from(pointer) : bytes),
    size: claimedSize ?? bytes.length,
  };
}

export function gitBlobHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}

/** The name that blobs of this file have in the cache. */
export function etagOf(file: HubFile): string {
  return file.lfs ?? file.oid;
}

export class Repository {
  readonly id: string;
  /** Seen only with a token that may read it. */
  private: boolean;
  /** Listed for everybody; its files are given to `readers` only. */
  gated: boolean;
  readonly readers = new Set<string>();
  /** Branches and tags, to commits. */
  readonly refs = new Map<string, string>();
  readonly commits = new Map<string, ReadonlyMap<string, HubFile>>();

  constructor(id: string, options: { private?: boolean; gated?: boolean } = {}) {
    this.id = id;
    this.private = options.private ?? false;
    this.gated = options.gated ?? false;
  }

  /** Puts files on a branch in place of what it had, and tells the commit. */
  commit(files: readonly HubFile[], branch = 'main'): string {
    const tree = new Map(files.map((file) => [file.path, file]));
    const hash = createHash('sha1').update(`${this.id} ${branch} ${this.commits.size}`);
    for (const file of files) hash.update(`${file.path}\0${file.oid}\0`);
    const commit = hash.digest('hex');
    this.commits.set(commit, tree);
    this.refs.set(branch, commit);
    return commit;
  }

  /** The commit that a branch, a tag, `HEAD` or a commit's own name stands for. */
  resolve(revision: string): string | undefined {
    if (revision === 'HEAD') return this.refs.get('main');
    return this.refs.get(revision) ?? (this.commits.has(revision) ? revision : undefined);
  }

  files(commit: string): HubFile[] {
    return [...(this.commits.get(commit)?.values() ?? [])];
  }

  file(commit: string, path: string): HubFile | undefined {
    return this.commits.get(commit)?.get(path);
  }

  mayRead(token: string | undefined): boolean {
    return token !== undefined && this.readers.has(token);
  }
}
