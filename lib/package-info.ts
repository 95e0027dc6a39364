/**
 * Where the installed package lies and which version it is. Knows nothing of models or the addon.
 */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of package.json; both `lib/` and `dist/` lie directly below it. */
export const packageRoot = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** Version in package.json. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(path.join(packageRoot, 'package.json'), 'utf8'),
  );
  return (manifest as { version: string }).version;
}
