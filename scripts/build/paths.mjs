// Where the build keeps things. Everything made lies under build/, which git ignores.

import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
export const build = path.join(root, 'build');
/** Unpacked MLX wheels and the sources of mlx-c. */
export const deps = path.join(build, 'deps');
/** What the addon is loaded from. */
export const release = path.join(build, 'Release');
export const addonFile = path.join(release, 'mlxk.node');
/** CMake's folder for the addon. */
export const cmakeFolder = path.join(build, 'addon');
/** Cargo's target folder for native/text. */
export const textFolder = path.join(build, 'text');
export const textLibrary = path.join(textFolder, 'release', 'libmlxk_text.a');
