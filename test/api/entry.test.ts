import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, describe, expect, it } from 'vitest';

import { builtPackage, run, runScript } from '../helpers/child.js';
import { smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

afterAll(removeTemporaryFolders);

const root = path.dirname(path.dirname(fileURLToPath(builtPackage)));

describe('the built package', () => {
  it('is imported', async () => {
    const ended = await runScript('console.log(typeof load, typeof generate, typeof MlxkError);');
    expect(ended).toMatchObject({ code: 0, stdout: 'function function function\n', stderr: '' });
  });

  it('is required too, and the same errors come from it', async () => {
    const script = `const { load, MlxkError } = require('mlxk');
      load(${JSON.stringify(smallModelFolder())})
        .then((model) => model.generate({ tokens: [1] }, { maxTokens: 2 }).then(({ tokens }) => {
          console.log(tokens.length);
          return model.generate({ tokens: [] });
        }))
        .catch((error) => console.log(error instanceof MlxkError, error.reason));`;
    const ended = await run(process.execPath, ['-e', script], { cwd: root });
    expect(ended).toMatchObject({ code: 0, stdout: '2\ntrue empty_prompt\n', stderr: '' });
  });

  it('is one module, imported or required', async () => {
    const script = `import { createRequire } from 'node:module';
      const required = createRequire(${JSON.stringify(builtPackage)})('mlxk');
      console.log(required.load === load, required.MlxkError === MlxkError);`;
    expect(await runScript(script)).toMatchObject({ code: 0, stdout: 'true true\n', stderr: '' });
  });

  it('loads no native code until it is used', async () => {
    const script = `console.log(process.report.getReport().sharedObjects.some((file) => file.includes('mlxk.node')));`;
    expect(await runScript(script)).toMatchObject({ code: 0, stdout: 'false\n' });
  });

  it('has every type declaration that its own declarations refer to', () => {
    const folder = path.dirname(fileURLToPath(builtPackage));
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.d.ts'),
    );
    const missing = files.flatMap((file) => {
      const text = readFileSync(path.join(folder, file), 'utf8');
      return [...text.matchAll(/from '(\.[^']+)\.js'/g)]
        .map((match) => path.join(folder, path.dirname(file), `${match[1]}.d.ts`))
        .filter((declaration) => !existsSync(declaration));
    });
    expect(missing).toEqual([]);
  });
});

describe('the published package', () => {
  it('holds what is run, built and read, and nothing of development', async () => {
    const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
    const { stdout, code } = await run('npm', args, { cwd: root });
    expect(code).toBe(0);
    const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }];
    const names = files.map((file) => file.path);
    const needed = [
      ...['LICENSE', 'README.md', 'package.json', 'CMakeLists.txt', 'scripts/install.mjs'],
      ...['dist/index.js', 'dist/index.d.ts', 'dist/index.cjs', 'dist/index.d.cts'],
      ...['dist/cli/commands/list.js', 'bin/mlxk.js'],
      ...['builtin/config.json', 'schemas/json-api.json', 'docs/hub.md', 'native/addon.cpp'],
      ...['native/text/Cargo.lock', 'native/text/src/lib.rs', 'scripts/build/text.mjs'],
    ];
    expect(needed.filter((name) => !names.includes(name))).toEqual([]);
    const folders = 'bin builtin cmake deps dist docs native prebuilds schemas scripts'.split(' ');
    const strays = names.filter((name) => {
      const [top = '', ...rest] = name.split('/');
      if (rest.length > 0 && !folders.includes(top)) return true;
      return /(^|\/)(tests?|target|goldens|vendor)\/|lint|\.test\.|(^|\/)\./.test(name);
    });
    expect(strays).toEqual([]);
  });
});
