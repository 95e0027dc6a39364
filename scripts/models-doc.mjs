// Writes docs/models.md from the architectures' own files, and the reasons for the ones that are left out.
// usage: node scripts/models-doc.mjs [FILE]

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { root } from './build/paths.mjs';

const models = path.join(root, 'native', 'models');
const file = process.argv[2] ?? path.join(root, 'docs', 'models.md');

/** @returns {{ title: string, types: string[] }} what an architecture's file says it is, and the names it registers */
function described(/** @type {string} */ name) {
  const source = readFileSync(path.join(models, name), 'utf8');
  const comment = /^((?:\/\/ .*\n)+)/.exec(source)?.[1] ?? '';
  const title =
    comment
      .replaceAll(/^\/\/ /gm, '')
      .replaceAll('\n', ' ')
      .split(/\. References?: /)[0] ?? name;
  const types = [...source.matchAll(/^MLXK_MODEL\(\w+, ([^)]*)\);/gm)].flatMap(([, names]) =>
    [...(names ?? '').matchAll(/"([^"]+)"/g)].map(([, type]) => String(type)),
  );
  return { title, types };
}

const rows = readdirSync(models)
  .filter((name) => name.endsWith('.cpp'))
  .map(described)
  .sort((a, b) => a.title.localeCompare(b.title, 'en'));

/** @type {Record<string, string>} */
const leftOut = JSON.parse(
  readFileSync(path.join(root, 'scripts', 'models-left-out.json'), 'utf8'),
);

const lines = [
  '# Which models run',
  '',
  'A model runs when the `model_type` of its config.json is one of these. `mlxk show MODEL` says so before anything is',
  'loaded. Every one is compared with mlx-lm 0.32.2, token by token; `test/goldens/` holds the data.',
  '',
  '| `model_type` | what it is |',
  '| --- | --- |',
  ...rows.map(
    ({ title, types }) => `| ${types.map((type) => `\`${type}\``).join(', ')} | ${title} |`,
  ),
  '',
  '## Left out',
  '',
  'mlx-lm 0.32.2 serves these as well; mlxk refuses them by name.',
  '',
  '| `model_type` | why |',
  '| --- | --- |',
  ...Object.entries(leftOut).map(([type, why]) => `| \`${type}\` | ${why} |`),
  '',
  '<!-- Written by scripts/models-doc.mjs -->',
  '',
];
writeFileSync(file, lines.join('\n'));
