/**
 * Every command and example of the README is run as it stands, against the built package. The two that set up a
 * clone are not run inside themselves: the gate has to run them, in the same words.
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { run } from './helpers/child.js';
import { CHAT_MODEL, writeFiles } from './helpers/fixture-cache.js';
import { HubServer } from './helpers/hub-server/index.js';
import { modelFiles } from './helpers/remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from './helpers/temporary.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

interface Block {
  readonly page: string;
  readonly language: string;
  readonly code: string;
}

const docs = path.join(root, 'docs');
const pages = [
  'README.md',
  ...(existsSync(docs) ? readdirSync(docs).map((name) => path.join('docs', name)) : []),
].filter((name) => name.endsWith('.md'));

const blocks: Block[] = pages.flatMap((page) =>
  [...readFileSync(path.join(root, page), 'utf8').matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(
    ([, language, code]) => ({ page, language: language!, code: code! }),
  ),
);

/** The commands of all `sh` blocks, one a line; a backslash continues a line. */
const commands = blocks
  .filter(({ language }) => language === 'sh')
  .flatMap(({ page, code }) =>
    code
      .replaceAll('\\\n', ' ')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((command) => ({ page, command })),
  );

const setsUpOrTests = (command: string): boolean => /\bnpm (install|ci|test|run)\b/.test(command);

/** Where the pages' `org/model` is to be had. */
const hub = new HubServer();

beforeAll(async () => {
  await hub.start();
  hub.tokens.set('hf_docs', 'org');
  const model = hub.add('org/model', modelFiles());
  model.refs.set('v1.0', model.resolve('main')!);
  hub.add('org/my-model', modelFiles({ seed: 'mine' }), { private: true }).readers.add('hf_docs');
});
afterAll(() => hub.stop());

/** An empty project that has this package installed, the clone's `bin` and a workspace beside it. */
function project(): string {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, 'node_modules', '.bin'), { recursive: true });
  symlinkSync(root, path.join(folder, 'node_modules', 'mlxk'), 'dir');
  symlinkSync(path.join(root, 'bin', 'mlxk.js'), path.join(folder, 'node_modules', '.bin', 'mlxk'));
  symlinkSync(path.join(root, 'bin'), path.join(folder, 'bin'), 'dir');
  writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }\n');
  writeFiles(path.join(folder, 'my-model'), CHAT_MODEL);
  return folder;
}

function runIn(folder: string, command: string, args: readonly string[]): ReturnType<typeof run> {
  const program = path.join(folder, 'node_modules', '.bin');
  return run(command, args, {
    cwd: folder,
    env: {
      PATH: `${program}${path.delimiter}${process.env.PATH ?? ''}`,
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: 'hf_docs',
      HF_HOME: path.join(folder, 'huggingface'),
      HF_HUB_CACHE: '',
      HF_HUB_OFFLINE: '',
    },
  });
}

afterAll(removeTemporaryFolders);

describe('the commands of the pages', () => {
  const setup = commands.filter(({ command }) => setsUpOrTests(command));
  const gate = readFileSync(path.join(root, '.ci', 'run'), 'utf8');

  it('name the two that set up a clone', () => {
    expect(setup.map(({ command }) => command)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/ run "/),
        expect.stringMatching(/ npm test$/),
      ]),
    );
  });

  it.each(setup)('$command is what the gate runs', ({ command }) => {
    expect(gate).toContain(command);
  });

  it.each(commands.filter(({ command }) => !setsUpOrTests(command)))(
    '$command works',
    async ({ command }) => {
      const { code, signal, stdout, stderr } = await runIn(project(), 'sh', ['-c', command]);
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
      expect(stdout.trim()).not.toBe('');
    },
  );
});

describe('the examples of the pages', () => {
  const examples = blocks.filter(({ language }) => language === 'ts' || language === 'js');

  it('are there', () => {
    expect(examples).not.toEqual([]);
  });

  it.each(examples)(
    'the $language block of $page compiles and runs: $code',
    async ({ language, code }) => {
      const folder = project();
      writeFileSync(path.join(folder, `example.${language}`), code);
      if (language === 'ts') {
        const compiled = await runIn(folder, process.execPath, [
          path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
          ...[
            '--strict',
            '--target',
            'es2022',
            '--lib',
            'es2023,esnext.disposable',
            '--module',
            'nodenext',
          ],
          ...[
            '--skipLibCheck',
            '--typeRoots',
            path.join(root, 'node_modules', '@types'),
            '--types',
            'node',
          ],
          'example.ts',
        ]);
        expect(compiled).toMatchObject({ code: 0, stdout: '' });
      }
      const {
        code: exit,
        signal,
        stdout,
        stderr,
      } = await runIn(folder, process.execPath, ['example.js']);
      expect({ exit, signal, stderr }).toEqual({ exit: 0, signal: null, stderr: '' });
      expect(stdout.trim()).not.toBe('');
    },
  );
});
