/**
 * The machine: platform, processor, memory.
 */

import os from 'node:os';

import { decimalBytes } from '../format.js';
import { type Finding, ok, problem, warning } from './finding.js';

const SUPPORTED = ['darwin-arm64', 'linux-x64', 'linux-arm64'];
/** What a small model and Node need besides everything else. */
const SMALL_MEMORY_BYTES = 4e9;

export function checkMachine(): Finding[] {
  const platform = `${process.platform}-${process.arch}`;
  const described = `${platform}, Node ${process.versions.node}`;
  return [
    SUPPORTED.includes(platform)
      ? ok('platform', described)
      : problem('platform', `${described}; supported are ${SUPPORTED.join(', ')}`, null),
    processor(),
    memory(),
  ];
}

function processor(): Finding {
  const model = os.cpus()[0]?.model.trim() ?? 'unknown';
  return ok('processor', `${model}, ${os.availableParallelism()} threads`);
}

function memory(): Finding {
  const total = process.constrainedMemory();
  // Node reports a number beyond all memory, or 0, where there is no limit.
  const limit = total > 0 && total < os.totalmem() ? total : os.totalmem();
  const described = `${decimalBytes(limit)}, ${decimalBytes(Math.min(limit, os.freemem()))} free`;
  return limit < SMALL_MEMORY_BYTES
    ? warning('memory', `${described}: enough for small models only`, null)
    : ok('memory', described);
}
