/**
 * The machine: platform, processor, memory.
 */

import { readFile } from 'node:fs/promises';
import os from 'node:os';

import { decimalBytes } from '../format.js';
import { type Finding, ok, problem, warning } from './finding.js';

const SUPPORTED = ['darwin-arm64', 'linux-x64', 'linux-arm64'];
/** What a small model and Node need besides everything else. */
const SMALL_MEMORY_BYTES = 4e9;

export async function checkMachine(): Promise<Finding[]> {
  const platform = `${process.platform}-${process.arch}`;
  const described = `${platform}, Node ${process.versions.node}`;
  return [
    SUPPORTED.includes(platform)
      ? ok('platform', described)
      : problem('platform', `${described}; supported are ${SUPPORTED.join(', ')}`, null),
    await processor(),
    memory(),
  ];
}

async function processor(): Promise<Finding> {
  const model = os.cpus()[0]?.model.trim() ?? 'unknown processor';
  const sets = await instructionSets();
  const described = `${model}, ${os.availableParallelism()} threads${sets.length > 0 ? `, ${sets.join(' ')}` : ''}`;
  if (process.arch === 'x64' && sets.length > 0 && !sets.includes('AVX2')) {
    return warning('processor', `${described}; without AVX2 models are slow`, null);
  }
  return ok('processor', described);
}

/** Those that the kernels are made for, as Linux tells; elsewhere they follow from the platform. */
async function instructionSets(): Promise<string[]> {
  if (process.platform !== 'linux') return process.arch === 'arm64' ? ['NEON'] : [];
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const [, flags = ''] = /^(?:flags|Features)\s*:(.*)$/m.exec(text) ?? [];
  const known: Record<string, string> = { avx512f: 'AVX-512', avx2: 'AVX2', asimd: 'NEON' };
  const has = new Set(flags.trim().split(/\s+/));
  return Object.entries(known).flatMap(([flag, name]) => (has.has(flag) ? [name] : []));
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
