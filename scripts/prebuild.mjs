// What `npm run prebuild` runs: builds from source and lays the result out in prebuilds/<platform>-<arch>/ through
// prebuildify. It works on a copy of build/Release, since prebuildify moves the addon away.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

// @ts-expect-error: prebuildify has no types.
import prebuildify from 'prebuildify';

import { defaultBackend } from './build/backend.mjs';
import { build, release, root } from './build/paths.mjs';

const stage = path.join(build, 'prebuild');
const output = path.join(root, 'prebuilds');

// A prebuild is for the platform's default back end; others are built on the spot.
const { status } = spawnSync(
  process.execPath,
  [path.join(root, 'scripts', 'install.mjs'), '--from-source'],
  {
    env: { ...process.env, MLXK_BACKEND: defaultBackend(), MLXK_SYSTEM_MLXC: '0' },
    stdio: 'inherit',
  },
);
if (status !== 0) process.exit(1);

for (const folder of [stage, output]) rmSync(folder, { recursive: true, force: true });
mkdirSync(path.join(stage, 'build', 'Release'), { recursive: true });
cpSync(path.join(release, 'mlxk.node'), path.join(stage, 'build', 'Release', 'mlxk.node'));
cpSync(release, path.join(stage, 'artifacts'), {
  recursive: true,
  filter: (name) => !name.endsWith('.node'),
});
await promisify(prebuildify)({
  name: 'mlxk',
  napi: true,
  targets: [process.version],
  cwd: stage,
  out: root,
  artifacts: path.join(stage, 'artifacts'),
  strip: process.platform === 'linux',
  // Built already.
  nodeGyp: 'true',
});
