// Whether MLX's builds for Linux run over this system's C library: their wheels are manylinux_2_35, glibc 2.35 and newer.

const LEAST = [2, 35];

/**
 * Why they do not, or undefined.
 * @param {string | null} [glibc] Its version; null on a system that has another C library.
 * @returns {string | undefined}
 */
export function libcFault(glibc = runningGlibc()) {
  const needed = `MLX's builds for Linux need glibc ${LEAST.join('.')} or newer (Debian 12, Ubuntu 22.04, RHEL 10)`;
  const otherwise = 'Use a newer system, or install MLX 0.32.2 and mlx-c 0.7.0 built for this one.';
  if (glibc === null) {
    return `${needed}; this system has another C library, such as Alpine's musl. ${otherwise}`;
  }
  const [major = 0, minor = 0] = glibc.split('.').map(Number);
  const [leastMajor = 0, leastMinor = 0] = LEAST;
  const enough = major > leastMajor || (major === leastMajor && minor >= leastMinor);
  return enough ? undefined : `${needed}; this system has ${glibc}. ${otherwise}`;
}

function runningGlibc() {
  const { report } = process;
  // Else it asks for the name of every connection.
  /** @type {{ excludeNetwork?: boolean }} */ (report).excludeNetwork = true;
  const { header } = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (
    /** @type {unknown} */ (report.getReport())
  );
  return header.glibcVersionRuntime ?? null;
}
