/**
 * What the native addon says of itself. It is loaded in a process of its own, so that an addon that ends its process
 * ends no other.
 */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import type { NativeVersion } from '../native.js';
import type { Environment } from './finding.js';

/** Loading takes a tenth of a second; the first time on a slow disk it takes more. */
const LIMIT_MS = 60_000;

export interface Inspection {
  readonly version: NativeVersion;
  /** How the CPU computes, or what is wrong with the environment variable that chose it. */
  readonly cpu: { readonly isa: string; readonly threads: number } | { readonly error: string };
}

/** @throws An Error whose message says why the addon does not load. */
export async function inspectAddon(env: Environment): Promise<Inspection> {
  const script =
    `import { addon } from ${JSON.stringify(new URL('../binding.js', import.meta.url).href)};` +
    'let cpu; try { cpu = addon().cpu(); } catch (error) { cpu = { error: error.message }; }' +
    'console.log(JSON.stringify({ version: addon().version(), cpu }));';
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', script],
      { timeout: LIMIT_MS, env: { ...env } },
    );
    return JSON.parse(stdout) as Inspection;
  } catch (error) {
    throw new Error(reasonOf(error), { cause: error });
  }
}

/** The message that the child died with, else how it died. */
function reasonOf(error: unknown): string {
  const { stderr, signal, message } = error as { stderr?: string; signal?: string } & Error;
  const [, thrown] = /^\w*Error: (.*)$/m.exec(stderr ?? '') ?? [];
  if (thrown !== undefined) return thrown;
  return signal ? `it ends its process with ${signal}` : message.trim();
}
