// Which of MLX's back ends this build is for.

import { BuildFailure } from './failure.mjs';

/** @typedef {'cpu' | 'metal' | 'cuda12' | 'cuda13'} Backend */

/** @type {Record<string, NodeJS.Platform>} */
const PLATFORMS = { cpu: 'linux', metal: 'darwin', cuda12: 'linux', cuda13: 'linux' };

/**
 * The back end of a platform that nothing was asked of.
 * @returns {Backend}
 */
export function defaultBackend() {
  return process.platform === 'darwin' ? 'metal' : 'cpu';
}

/**
 * MLXK_BACKEND, or the platform's default.
 * @returns {Backend}
 */
export function chosenBackend() {
  const asked = process.env.MLXK_BACKEND || defaultBackend();
  if (!Object.hasOwn(PLATFORMS, asked)) {
    throw new BuildFailure(
      `MLXK_BACKEND must be one of ${Object.keys(PLATFORMS).join(', ')}, not "${asked}".`,
    );
  }
  const { platform, arch } = process;
  const supported =
    platform === PLATFORMS[asked] && (arch === 'arm64' || (arch === 'x64' && platform === 'linux'));
  if (!supported) {
    throw new BuildFailure(
      `The ${asked} back end of MLX does not exist for ${platform}-${arch}. ` +
        'There is metal for macOS on Apple silicon, and cpu, cuda12 and cuda13 for Linux on x64 and arm64.',
    );
  }
  return /** @type {Backend} */ (asked);
}
