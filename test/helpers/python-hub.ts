/**
 * The real Python `huggingface_hub`, of the pinned version, installed under build/ on first use.
 */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));
const requirements = path.join(root, 'test', 'hub', 'requirements.txt');

/** The folder for `PYTHONPATH`. */
export async function pythonHub(): Promise<string> {
  const wanted = createHash('sha256').update(readFileSync(requirements)).digest('hex');
  const folder = path.join(root, 'build', 'python-hub');
  const stamp = path.join(folder, 'complete');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return folder;
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(path.dirname(folder), { recursive: true });
  rmSync(fresh, { recursive: true, force: true });
  await execute('python3', [
    ...[
      '-m',
      'pip',
      'install',
      '--quiet',
      '--no-deps',
      '--require-hashes',
      '--only-binary',
      ':all:',
    ],
    ...['--disable-pip-version-check', '--root-user-action', 'ignore', '--no-input'],
    ...['--target', fresh, '--requirement', requirements],
  ]);
  writeFileSync(path.join(fresh, 'complete'), wanted);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  return folder;
}

/** Environment of a Python process that sees this hub and this cache, and nothing of the user's. */
export function pythonEnvironment(
  folder: string,
  { endpoint, cache }: { endpoint: string; cache: string },
): Record<string, string> {
  return {
    PYTHONPATH: folder,
    HF_ENDPOINT: endpoint,
    HF_HUB_CACHE: cache,
    HF_HOME: path.dirname(cache),
    HF_TOKEN: '',
    HF_HUB_OFFLINE: '0',
    HF_HUB_DISABLE_TELEMETRY: '1',
    HF_HUB_DISABLE_PROGRESS_BARS: '1',
  };
}
