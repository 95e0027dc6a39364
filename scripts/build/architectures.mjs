// lib/supported-architectures.ts: the `model_type`s of native/models, for what has to know them without native code.
// Each architecture registers itself by the macro MLXK_MODEL(Class, "model_type", …).

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { root } from './paths.mjs';

/** Writes the file anew when an architecture came or went. */
export function updateArchitectures() {
  const file = path.join(root, 'lib', 'supported-architectures.ts');
  const text = source(registered());
  let earlier = '';
  try {
    earlier = readFileSync(file, 'utf8');
  } catch {
    // Not made yet.
  }
  if (text !== earlier) writeFileSync(file, text);
}

/** The registered names, sorted by code point as the registry sorts them. */
function registered() {
  const models = path.join(root, 'native', 'models');
  const names = readdirSync(models)
    .filter((name) => name.endsWith('.cpp'))
    .flatMap((name) => [
      ...readFileSync(path.join(models, name), 'utf8').matchAll(/^MLXK_MODEL\(([^)]*)\)/gm),
    ])
    .flatMap(([, list = '']) => [...list.matchAll(/"([^"]+)"/g)])
    .map(([, name = '']) => name);
  return [...new Set(names)].sort();
}

/** @param {string[]} names */
function source(names) {
  const entries = names.map((name) => `  '${name}',\n`).join('');
  return `/**
 * The architectures (\`model_type\` of config.json) that the engine runs, for what must not load it.
 * Made by \`npm run build:ts\` from the registrations in native/models; do not edit.
 */

export const SUPPORTED_ARCHITECTURES: readonly string[] = [
${entries}];
`;
}
