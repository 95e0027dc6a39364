/**
 * The native addon: whether it loads, and what it was built for.
 */

import { packageVersion } from '../package-info.js';
import { type Environment, type Finding, ok, problem, warning } from './finding.js';
import { type Inspection, inspectAddon } from './inspect.js';

const REBUILD = 'npm rebuild mlxk';

export async function checkEngine(env: Environment): Promise<Finding[]> {
  let inspection: Inspection;
  try {
    inspection = await inspectAddon(env);
  } catch (error) {
    const why = (error as Error).message;
    return [problem('engine', `the native addon does not load: ${why}`, REBUILD)];
  }
  const { version, cpu } = inspection;
  const described = `mlxk ${version.mlxk}, ${version.backend} back end on the ${version.device}`;
  const expected = packageVersion();
  return [
    version.mlxk === expected
      ? ok('engine', described)
      : warning('engine', `${described}; the package is ${expected}`, REBUILD),
    ok('libmlx', version.mlx),
    'error' in cpu
      ? problem('kernels', cpu.error, `unset ${/MLXK_\w+/.exec(cpu.error)?.[0] ?? 'MLXK_CPU_ISA'}`)
      : ok('kernels', `${cpu.isa}, ${cpu.threads} threads`),
  ];
}
