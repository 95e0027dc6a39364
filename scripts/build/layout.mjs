// Lays out what the loaded addon needs around it, in build/Release. On macOS libmlx and mlx.metallib lie beside the
// addon. On Linux libmlx.so looks for its own libraries in ../../*.libs, so the wheel's folders are kept.

import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';

import { addonFile, cmakeFolder, release } from './paths.mjs';

const LIBRARY = /\.(dylib|metallib|so)(\.\d+)*$/;

/**
 * @param {string | undefined} mlx Folder of the unpacked wheel; undefined when the installed MLX is used.
 */
export function layOut(mlx) {
  mkdirSync(release, { recursive: true });
  if (mlx) {
    const beside = process.platform === 'darwin' ? release : path.join(release, 'mlx', 'lib');
    placeLibraries(path.join(mlx, 'mlx', 'lib'), beside);
    // libmlx for CUDA compiles kernels at run time from headers that it looks for at ../include.
    const headers = path.join('mlx', 'include');
    for (const name of ['cccl', 'cute', 'cutlass']) {
      const folder = path.join(mlx, headers, name);
      if (existsSync(folder)) placeTree(folder, path.join(release, headers, name));
    }
    for (const name of readdirSync(mlx)) {
      if (name.endsWith('.libs') || name === 'nvidia')
        placeTree(path.join(mlx, name), path.join(release, name));
    }
  }
  place(path.join(cmakeFolder, 'Release', 'mlxk.node'), addonFile, copyFileSync);
}

/**
 * @param {string} from
 * @param {string} to
 */
function placeLibraries(from, to) {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (LIBRARY.test(name)) place(path.join(from, name), path.join(to, name), linkOrCopy);
  }
}

/**
 * @param {string} from
 * @param {string} to
 */
function placeTree(from, to) {
  for (const name of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
    const source = path.join(from, name);
    const target = path.join(to, name);
    if (statSync(source).isDirectory()) continue;
    mkdirSync(path.dirname(target), { recursive: true });
    place(source, target, linkOrCopy);
  }
}

/**
 * By renaming, so that a process which has the old file loaded keeps it whole.
 * @param {string} from
 * @param {string} to
 * @param {(from: string, to: string) => void} how
 */
function place(from, to, how) {
  if (existsSync(to) && statSync(to).ino === statSync(from).ino) return;
  const fresh = `${to}.new`;
  rmSync(fresh, { force: true });
  how(from, fresh);
  renameSync(fresh, to);
}

/**
 * A second name takes no room: mlx.metallib alone has 130 MB.
 * @param {string} from
 * @param {string} to
 */
function linkOrCopy(from, to) {
  try {
    linkSync(from, to);
  } catch {
    // Another file system, or one without links.
    copyFileSync(from, to);
  }
}
