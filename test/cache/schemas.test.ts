import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { JSON_API_VERSION } from '../../lib/contracts/json-api.js';
import { schemaNames, violations } from '../helpers/schemas.js';

const docs = fileURLToPath(new URL('../../docs/', import.meta.url));

/** Every JSON block of the pages, with its page. */
const examples = readdirSync(docs)
  .filter((name) => name.endsWith('.md'))
  .flatMap((page) =>
    [...readFileSync(path.join(docs, page), 'utf8').matchAll(/^```json\n(.*?)^```$/gms)].map(
      ([, json]) => ({ page, json: json! }),
    ),
  );

describe('the schemas', () => {
  it.each(schemaNames)('%s is to be had from the package', (name) => {
    const found = createRequire(import.meta.url).resolve(`mlxk/schemas/${name}`);
    expect(found.split(path.sep).join('/').endsWith(`schemas/${name}`)).toBe(true);
  });

  it.each(schemaNames)('%s is sound', (name) => {
    expect(violations(null, name)).not.toEqual([]);
  });

  it.each([
    [{ status: 'success', command: null, data: {}, error: null }],
    [{ status: 'success', command: 'list', data: { models: [] }, error: null }],
    [{ status: 'error', command: 'list', data: null, error: null }],
    [{ status: 'starting', command: 'serve', data: {}, error: null }],
    [
      {
        status: 'success',
        command: 'list',
        data: { models: [{ name: 'x' }], count: 1 },
        error: null,
      },
    ],
    [{ status: 'success', command: 'health', data: {}, error: null, extra: 1 }],
  ])('refuse %j', (value) => {
    expect(violations(value)).not.toEqual([]);
  });
});

describe('the documented examples', () => {
  it('are there for each command of the contract', () => {
    const commands = examples.map(({ json }) => (JSON.parse(json) as { command: string }).command);
    expect(commands).toEqual(expect.arrayContaining(['list', 'health', 'show', 'rm', 'version']));
  });

  it.each(examples)('conform: $page $json', ({ json }) => {
    expect(violations(JSON.parse(json))).toEqual([]);
  });

  it('are of the version that the program speaks', () => {
    const page = readFileSync(path.join(docs, 'json-api.md'), 'utf8');
    expect(/^Version (\S+)$/m.exec(page)?.[1]).toBe(JSON_API_VERSION);
  });
});
