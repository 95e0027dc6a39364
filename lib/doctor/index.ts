/**
 * Looks at everything that a model needs to run here, and says for each thing how it is and what mends it.
 */

import { checkCache } from './cache.js';
import { checkEngine } from './engine.js';
import type { Environment, Finding } from './finding.js';
import { checkHub } from './hub.js';
import { checkMachine } from './machine.js';

export type { Finding, Status } from './finding.js';

/** Never throws for what it finds. Asks the hub, unless `HF_HUB_OFFLINE` is set. */
export async function examine(env: Environment = process.env): Promise<Finding[]> {
  const asked = await Promise.all([checkEngine(env), checkCache(env), checkHub(env)]);
  return [...checkMachine(), ...asked.flat()];
}
