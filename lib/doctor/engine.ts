/**
 * The native addon: whether it loads, and what it was built for. It is loaded in a process of its own, so that an
 * addon that ends its process is a finding too.
 */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import type { NativeVersion } from '../native.js';
import { packageVersion } from '../package-info.js';
import { type Environment, type Finding, ok, problem, warning } from './finding.js';

const REBUILD = 'npm rebuild mlxk';
/** Loading takes a tenth of a second; the first time on a slow disk it takes more. */
const LIMIT_MS = 60_000;

/** What the process that loads the addon prints. */
interface Report {
  readonly version: NativeVersion;
  readonly cpu: { readonly isa: string; readonly threads: number } | { readonly error: string };
}

export async function checkEngine(env: Environment): Promise<Finding[]> {
  const script =
    `import { addon } from ${JSON.stringify(new URL('../binding.js', import.meta.url).href)};` +
    'let cpu; try { cpu = addon().cpu(); } catch (error) { cpu = { error: error.message }; }' +
    'console.log(JSON.stringify({ version: addon().version(), cpu }));';
  let report: Report;
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', script],
      { timeout: LIMIT_MS, env: { ...env } },
    );
    report = JSON.parse(stdout) as Report;
  } catch (error) {
    return [problem('engine', `the native addon does not load: ${reasonOf(error)}`, REBUILD)];
  }
  const { version, cpu } = report;
  const described = `mlxk ${version.mlxk}, ${version.backend} back end on the ${version.device}`;
  const expected = packageVersion();
  return [
    version.mlxk === expected
      ? ok('engine', described)
      : warning('engine', `${described}; the package is ${expected}`, REBUILD),
    ok('libmlx', version.mlx),
    'error' in cpu
      ? problem('kernels', cpu.error, `unset ${/MLXK_\w+/.exec(cpu.error)?.[0] ?? 'MLXK_CPU_ISA'}`)
      : ok('kernels', `${cpu.isa}, ${cpu.threads} threads`),
  ];
}

/** The message that the child died with, else how it died. */
function reasonOf(error: unknown): string {
  const { stderr, signal, message } = error as { stderr?: string; signal?: string } & Error;
  const [, thrown] = /^\w*Error: (.*)$/m.exec(stderr ?? '') ?? [];
  if (thrown !== undefined) return thrown;
  return signal ? `it ends its process with ${signal}` : message.trim();
}
