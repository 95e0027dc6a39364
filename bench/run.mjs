/**
 * `npm run bench [-- measure …]`: compares mlxk with mlx-lm on this machine, prints a table and writes it to
 * `results/`. Knows the order of things; each measure is a file of its own.
 */

import { readdirSync } from 'node:fs';

import { describeMachine, describeVersions } from './machine.mjs';
import { preparePeer, requireSameMlx } from './peer.mjs';
import { printMeasure, writeResults } from './report.mjs';

const folder = new URL('./measures/', import.meta.url);
const known = readdirSync(folder)
  .filter((file) => file.endsWith('.mjs'))
  .map((file) => file.replace('.mjs', ''))
  .sort();

async function main(names) {
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`there is no measure "${unknown}"; there are: ${known.join(', ')}`);
  }
  const peer = await preparePeer();
  await requireSameMlx(peer);
  const machine = describeMachine();
  const versions = await describeVersions(peer);
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}`,
  );
  console.log(
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
  );

  for (const name of names.length > 0 ? names : known) {
    const { measure } = await import(new URL(`${name}.mjs`, folder).href);
    const result = await measure(peer);
    printMeasure(name, result);
    writeResults(machine, versions, name, result);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
