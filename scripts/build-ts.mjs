// Compiles lib/ to dist/. tsc emits nothing for native.d.ts, which the emitted declarations refer to: it is copied.

import { spawnSync } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { root } from './build/paths.mjs';

const require = createRequire(import.meta.url);
const tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');

// Else a removed source would live on in dist/.
rmSync(path.join(root, 'dist'), { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
copyFileSync(path.join(root, 'lib', 'native.d.ts'), path.join(root, 'dist', 'native.d.ts'));
process.exitCode = status ?? 1;
