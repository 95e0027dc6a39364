// Compiles lib/ to dist/. tsc emits nothing for native.d.ts, which the emitted declarations refer to: it is copied.

import { spawnSync } from 'node:child_process';
import { copyFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { updateArchitectures } from './build/architectures.mjs';
import { writeCommonJsEntry } from './commonjs-entry.mjs';
import { build, root } from './build/paths.mjs';

const require = createRequire(import.meta.url);
const tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');

updateArchitectures();

// Into a new folder: a source that is gone must not live on in dist/, and who runs dist/ meanwhile finds it whole.
const fresh = path.join(build, 'dist');
rmSync(fresh, { recursive: true, force: true });
const { status } = spawnSync(
  process.execPath,
  [tsc, '-p', 'tsconfig.build.json', '--outDir', fresh],
  { cwd: root, stdio: 'inherit' },
);
if (status === 0) {
  const dist = path.join(root, 'dist');
  copyFileSync(path.join(root, 'lib', 'native.d.ts'), path.join(fresh, 'native.d.ts'));
  writeCommonJsEntry(fresh);
  rmSync(dist, { recursive: true, force: true });
  renameSync(fresh, dist);
}
process.exitCode = status ?? 1;
