// `npm run lint` and, with --fix, `npm run format`: every linter, also after one has failed. The last line is
// `N passed, N failed`.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { build, root, textFolder } from './build/paths.mjs';

const fix = process.argv.includes('--fix');
const pipTools = path.join(build, 'lint');

/**
 * @param {string} command
 * @param {string[]} args
 */
function succeeds(command, args) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (error) console.error(`${command}: ${error.message}`);
  return status === 0;
}

/** The files git knows or would add, of these patterns. @param {string[]} patterns */
function sources(...patterns) {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '--', ...patterns];
  const { stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  return stdout.split('\n').filter((file) => file !== '' && existsSync(path.join(root, file)));
}

/** clang-format and ruff, of the versions in lint-tools.txt, under build/. */
function bringPipTools() {
  const list = path.join('scripts', 'lint-tools.txt');
  const wanted = readFileSync(path.join(root, list), 'utf8');
  const stamp = path.join(pipTools, 'complete');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return true;
  rmSync(pipTools, { recursive: true, force: true });
  const flags = ['--quiet', '--no-deps', '--only-binary', ':all:', '--root-user-action', 'ignore'];
  const args = [
    '-m',
    'pip',
    'install',
    ...flags,
    '--disable-pip-version-check',
    '--target',
    pipTools,
  ];
  if (!succeeds('python3', [...args, '--requirement', list])) return false;
  writeFileSync(stamp, wanted);
  return true;
}

/** @param {string} name */
const npmTool = (name) => path.join(root, 'node_modules', '.bin', name);
const clangFormat = path.join(pipTools, 'clang_format', 'data', 'bin', 'clang-format');
const ruff = path.join(pipTools, 'bin', 'ruff');
const crate = ['--manifest-path', path.join('native', 'text', 'Cargo.toml')];
const clippy = [
  'clippy',
  '--quiet',
  '--locked',
  '--all-targets',
  ...crate,
  '--target-dir',
  textFolder,
];

/** @type {[string, () => boolean][]} */
const steps = [
  [
    'prettier',
    () => succeeds(npmTool('prettier'), ['--log-level', 'warn', fix ? '--write' : '--check', '.']),
  ],
  [
    'eslint',
    () => succeeds(npmTool('eslint'), ['--max-warnings', '0', ...(fix ? ['--fix'] : []), '.']),
  ],
  ['types', () => succeeds(npmTool('tsc'), ['--noEmit'])],
  [
    'types of scripts',
    () => succeeds(npmTool('tsc'), ['--noEmit', '--project', 'tsconfig.scripts.json']),
  ],
  ['rustfmt', () => succeeds('cargo', ['fmt', ...crate, ...(fix ? [] : ['--check'])])],
  ['clippy', () => succeeds('cargo', [...clippy, '--', '--deny', 'warnings'])],
  ['pip tools', bringPipTools],
  [
    'clang-format',
    () =>
      succeeds(clangFormat, [
        ...(fix ? ['-i'] : ['--dry-run', '-Werror']),
        ...sources('native/*.cpp', 'native/*.h'),
      ]),
  ],
  ['ruff', () => succeeds(ruff, ['check', '--quiet', ...(fix ? ['--fix'] : []), '.'])],
  ['ruff format', () => succeeds(ruff, ['format', '--quiet', ...(fix ? [] : ['--diff']), '.'])],
];

let failed = 0;
for (const [name, passes] of steps) {
  const start = performance.now();
  const passed = passes();
  if (!passed) failed += 1;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${passed ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
}
console.log(`${steps.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
