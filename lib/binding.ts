/**
 * Finds and loads the native addon, once, on first use: a command that needs no model loads no native code.
 * When it cannot be loaded, the error says which command mends it. Knows nothing of models.
 */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { MlxkError } from './errors.js';
import type { NativeAddon } from './native.js';
import { packageRoot } from './package-info.js';

const require = createRequire(import.meta.url);

let loaded: NativeAddon | undefined;

/**
 * The native addon: `build/Release/mlxk.node` of a source build, else the fitting file under `prebuilds/`.
 *
 * @throws MlxkError `internal_error` with reason `addon_missing` or `addon_unloadable`.
 */
export function addon(): NativeAddon {
  loaded ??= open(locate());
  return loaded;
}

function locate(): string {
  const built = path.join(packageRoot, 'build', 'Release', 'mlxk.node');
  if (existsSync(built)) return built;
  try {
    const prebuilt = require('node-gyp-build') as { resolve(root: string): string };
    return prebuilt.resolve(packageRoot);
  } catch (cause) {
    throw new MlxkError(
      'internal_error',
      `mlxk has no native addon for ${platform()}: neither build/Release/mlxk.node nor a fitting ` +
        `prebuild is in ${packageRoot}. Build it with: ${rebuildCommand()}`,
      { reason: 'addon_missing', cause },
    );
  }
}

function open(file: string): NativeAddon {
  try {
    return require(file) as NativeAddon;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new MlxkError(
      'internal_error',
      `the native addon ${file} cannot be loaded on ${platform()}: ${why}. ` +
        `Build it anew with: ${rebuildCommand()}`,
      { reason: 'addon_unloadable', detail: { file }, cause },
    );
  }
}

function platform(): string {
  return `${process.platform}-${process.arch}, Node ${process.versions.node}`;
}

/** Inside somebody's node_modules npm rebuilds the package by name; in a clone the install script does. */
function rebuildCommand(): string {
  return packageRoot.split(path.sep).includes('node_modules') ? 'npm rebuild mlxk' : 'npm install';
}
