/**
 * The schemas of the package, compiled: what every JSON output has to conform to.
 */

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect } from 'vitest';

const folder = fileURLToPath(new URL('../../schemas/', import.meta.url));

/** The file names of all schemas, such as `data/list.json`. */
export const schemaNames = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.replaceAll('\\', '/'))
  .sort();

const ajv = new Ajv2020({
  strict: true,
  strictTypes: false,
  strictRequired: false,
  allErrors: true,
});
for (const name of schemaNames) {
  ajv.addSchema(JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as object, name);
}

/** What a schema has against a value; empty when it conforms. */
export function violations(value: unknown, schema = 'json-api.json'): string[] {
  const validate = ajv.getSchema(schema);
  if (validate === undefined) throw new Error(`no schema ${schema}`);
  if (validate(value) === true) return [];
  return (validate.errors ?? []).map(
    ({ instancePath, message }) => `${instancePath} ${message ?? ''}`,
  );
}

export interface Envelope {
  readonly status: 'success' | 'error';
  readonly command: string | null;
  readonly data: Record<string, unknown> | null;
  readonly error: ({ type: string; message: string } & Record<string, unknown>) | null;
}

/** Standard output of a command with `--json`: one object, which conforms to the contract. */
export function parseEnvelope(stdout: string): Envelope {
  const value = JSON.parse(stdout) as Envelope;
  expect(violations(value), stdout).toEqual([]);
  return value;
}
