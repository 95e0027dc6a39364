/**
 * Runs scripts against the built package in a process of their own and reports how they ended.
 */

import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const packageRoot = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** URL of the built package's entry, for scripts that import it. */
export const builtPackage = pathToFileURL(path.join(packageRoot, 'dist', 'index.js')).href;

/** The command line program. */
export const program = path.join(packageRoot, 'bin', 'mlxk.js');

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Longest a child may take; a child that hangs is killed and so reported with a signal. */
const LIMIT_MS = 50_000;

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs a command to its end. Standard input is `input`, or nothing. */
export function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin.on('error', () => undefined); // A child that does not read its input may be gone by now.
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    child.stdin.end(options.input ?? '');
  });
}

/** Runs an ES module given as text; `load`, `generate` and `MlxkError` of the built package are there. */
export function runScript(body: string, options?: RunOptions): Promise<Ended> {
  const source = `import { load, generate, MlxkError } from ${JSON.stringify(builtPackage)};\n${body}`;
  return run(process.execPath, ['--input-type=module', '-e', source], options);
}

/** Runs the command line program. */
export function mlxk(args: readonly string[], options?: RunOptions): Promise<Ended> {
  return run(process.execPath, [program, ...args], options);
}
