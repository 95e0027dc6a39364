/**
 * The package as TypeScript programs use it: real files, compiled by the project's compiler with declarations checked
 * too, and run where they end in code.
 */

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import { run } from '../helpers/child.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

afterAll(removeTemporaryFolders);

const root = fileURLToPath(new URL('../..', import.meta.url));
const tsc = path.join(
  path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')),
  'bin',
  'tsc',
);

const USES = `
export const all: [typeof load, typeof generate] = [load, generate];
export const isOurs = (error: unknown): error is MlxkError => error instanceof MlxkError;
export const pull: (options: cache.PullOptions) => Promise<cache.PullResult> = (options) =>
  cache.pull('org/model', options);
export async function answer(model: Model, options: GenerateOptions): Promise<string> {
  for await (const piece of model.generate('Hi', options)) return piece.text;
  return (await generate(model, 'Hi')).text;
}
// @ts-expect-error: types are known, not any
export const wrong: number = load('builtin');
console.log(typeof load, typeof generate, typeof MlxkError, typeof cache.list);
`;

const MODULE = `import { cache, generate, load, MlxkError, type GenerateOptions, type Model } from 'mlxk';${USES}`;
const FILES = {
  'module.mts': MODULE,
  'names.cts': MODULE,
  'whole.cts': `import mlxk = require('mlxk');
import module = require('./names.cjs');
import { cache, generate, load, MlxkError } from 'mlxk';
type Model = mlxk.Model;
type GenerateOptions = mlxk.GenerateOptions;${USES}
export const same: typeof module.answer = answer;
export const Thrown: typeof mlxk.MlxkError = MlxkError;
`,
  // What one kind of module loads, the other may be given.
  'both.mts': `import { load } from 'mlxk';
import { answer, isOurs } from './whole.cjs';
export const text = async (): Promise<string> => answer(await load('builtin'), { maxTokens: 1 });
const thrown: unknown = await load('./nowhere').catch((error: unknown) => error);
if (isOurs(thrown)) console.log(thrown.code);
`,
};

function consumer(files: Record<string, string>): string {
  const folder = temporaryFolder();
  const modules = path.join(folder, 'node_modules');
  mkdirSync(modules);
  symlinkSync(root, path.join(modules, 'mlxk'));
  symlinkSync(path.join(root, 'node_modules', '@types'), path.join(modules, '@types'));
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
  return folder;
}

function compile(folder: string, module: string, files: string[]) {
  const strict = ['--strict', '--skipLibCheck', 'false', '--types', 'node', '--target', 'es2022'];
  const args = [tsc, '--ignoreConfig', ...strict, '--module', ...module.split(' '), ...files];
  return run(process.execPath, args, { cwd: folder });
}

describe('a TypeScript program', () => {
  it.each(['node16', 'nodenext'])(
    'imports and requires the package under %s, and runs',
    async (module) => {
      const folder = consumer(FILES);
      const compiled = await compile(folder, module, Object.keys(FILES));
      expect(compiled).toMatchObject({ code: 0, stdout: '' });
      const kinds = 'function function function function\n';
      const ended = await run(process.execPath, ['both.mjs'], { cwd: folder });
      expect(ended).toMatchObject({
        code: 0,
        stdout: `${kinds}model_not_found\n`,
        stderr: '',
      });
      const imported = await run(process.execPath, ['module.mjs'], { cwd: folder });
      expect(imported).toMatchObject({ code: 0, stdout: kinds, stderr: '' });
    },
  );

  it('imports the package as a bundler resolves it', async () => {
    const folder = consumer({ 'module.ts': MODULE });
    const options = 'esnext --moduleResolution bundler --noEmit';
    expect(await compile(folder, options, ['module.ts'])).toMatchObject({ code: 0, stdout: '' });
  });
});
