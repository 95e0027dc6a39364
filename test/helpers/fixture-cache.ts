/**
 * Fabricated caches and workspaces: a few bytes where a model has gigabytes. Nothing in them is a real model; what
 * they hold is what files can tell of one.
 */

import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import path from 'node:path';

import { type Ended, mlxk, type RunOptions } from './child.js';
import { type Envelope, parseEnvelope } from './schemas.js';
import { temporaryFolder } from './temporary.js';

/** Names and contents; objects become JSON. */
export type Files = Readonly<Record<string, string | Buffer | object>>;

export const COMMIT = 'a'.repeat(40);

/** A chat model that is whole and would run. */
export const CHAT_MODEL: Files = {
  'config.json': { model_type: 'llama', quantization: { bits: 4, group_size: 64 } },
  'model.safetensors': 'weights',
  'tokenizer.json': {},
  'tokenizer_config.json': { chat_template: '{{ messages }}' },
};

export function writeFiles(folder: string, files: Files): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytesOf(content));
  }
}

function bytesOf(content: string | Buffer | object): string | Buffer {
  return typeof content === 'string' || Buffer.isBuffer(content)
    ? content
    : JSON.stringify(content);
}

export interface CacheModelOptions {
  readonly commit?: string;
  /** Time of the snapshot, seconds since 1970. */
  readonly modified?: number;
  readonly refs?: Readonly<Record<string, string>>;
}

/** A temporary `HF_HOME`, and commands that run with it. */
export class FixtureCache {
  readonly home = temporaryFolder();
  readonly hub = path.join(this.home, 'hub');
  env: Record<string, string> = {
    HF_HOME: this.home,
    HF_HUB_CACHE: '',
    MLXK_WORKSPACE_HOME: '',
    HF_TOKEN: '',
    HF_HUB_OFFLINE: '1',
  };

  /** Adds a snapshot as the hub's own tools lay it out: files are links to blobs named by their hash. */
  add(id: string, files: Files, options: CacheModelOptions = {}): string {
    const { commit = COMMIT, modified, refs = {} } = options;
    const repository = this.repository(id);
    const snapshot = path.join(repository, 'snapshots', commit);
    const blobs = path.join(repository, 'blobs');
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(blobs, { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      const bytes = bytesOf(content);
      const blob = createHash('sha256').update(bytes).digest('hex');
      writeFileSync(path.join(blobs, blob), bytes);
      const link = path.join(snapshot, name);
      mkdirSync(path.dirname(link), { recursive: true });
      symlinkSync(path.relative(path.dirname(link), path.join(blobs, blob)), link);
    }
    for (const [name, target] of Object.entries(refs)) {
      writeFiles(path.join(repository, 'refs'), { [name]: target });
    }
    if (modified !== undefined) utimesSync(snapshot, modified, modified);
    return snapshot;
  }

  /** Folder of a model, which need not be there. */
  repository(id: string): string {
    return path.join(this.hub, `models--${id.split('/').join('--')}`);
  }

  /** Adds a lock file as a download leaves it; its time is long ago unless told. */
  addLock(id: string, name = 'blob', modified = 1_600_000_000): string {
    const folder = path.join(this.hub, '.locks', path.basename(this.repository(id)));
    const file = path.join(folder, `${name}.lock`);
    writeFiles(folder, { [`${name}.lock`]: '' });
    utimesSync(file, modified, modified);
    return file;
  }

  /** Makes a workspace home and its workspaces. */
  workspaces(names: readonly string[], files: Files = CHAT_MODEL): string {
    const home = path.join(this.home, 'workspaces');
    for (const name of names) writeFiles(path.join(home, name), files);
    this.env = { ...this.env, MLXK_WORKSPACE_HOME: home };
    return home;
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return mlxk(args, { ...options, env: { ...this.env, ...options.env } });
  }

  /** Runs a command with `--json`: stderr is empty and stdout conforms to the contract. */
  async json(args: readonly string[], options: RunOptions = {}): Promise<Envelope & Ended> {
    const ended = await this.run([...args, '--json'], options);
    expectQuiet(ended);
    return { ...ended, ...parseEnvelope(ended.stdout) };
  }
}

function expectQuiet({ stderr }: Ended): void {
  if (stderr !== '') throw new Error(`with --json, stderr has: ${stderr}`);
}
