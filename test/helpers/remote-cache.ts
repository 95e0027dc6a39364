/**
 * The command line program with a temporary cache and the hub server of the tests in place of the real one.
 */

import path from 'node:path';

import { type Ended, mlxk, type RunOptions } from './child.js';
import type { HubServer } from './hub-server/index.js';
import { type Envelope, parseEnvelope } from './schemas.js';
import { temporaryFolder } from './temporary.js';

export class RemoteCache {
  readonly #server: HubServer;
  readonly home = temporaryFolder();
  readonly hub = path.join(this.home, 'hub');
  env: Record<string, string>;

  constructor(server: HubServer) {
    this.#server = server;
    this.env = {
      HF_HOME: this.home,
      HF_HUB_CACHE: '',
      HF_ENDPOINT: this.#server.endpoint,
      HF_TOKEN: '',
      HF_HUB_OFFLINE: '',
      MLXK_WORKSPACE_HOME: '',
      MLXK2_ENABLE_ALPHA_FEATURES: '',
    };
  }

  repository(id: string): string {
    return path.join(this.hub, `models--${id.split('/').join('--')}`);
  }

  run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return mlxk(args, { ...options, env: { ...this.env, ...options.env } });
  }

  /** Runs a command with `--json`: stderr is empty and stdout conforms to the contract. */
  async json(args: readonly string[], options: RunOptions = {}): Promise<Envelope & Ended> {
    const ended = await this.run([...args, '--json'], options);
    if (ended.stderr !== '') throw new Error(`with --json, stderr has: ${ended.stderr}`);
    return { ...ended, ...parseEnvelope(ended.stdout) };
  }
}
