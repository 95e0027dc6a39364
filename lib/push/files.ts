/**
 * Which files of a workspace a push takes: all but what tools leave there, what `.hfignore` names, and what is this
 * program's own. Reads names and sizes only.
 */

import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { checkFileNames, shown } from '../hub/names.js';
import { matchesAny } from '../hub/patterns.js';
import { SENTINEL_NAME } from '../workspace/sentinel.js';

const IGNORE_FILE = '.hfignore';
/** Names of files and folders, at any depth. */
const NEVER = [
  ...['.git', '.DS_Store', IGNORE_FILE, '.gitignore', '__pycache__', '.venv', 'venv', '*.pyc'],
  ...[SENTINEL_NAME, '.hf_cache'],
];

export interface LocalFile {
  /** Path in the repository, with slashes. */
  readonly path: string;
  /** Where it lies. */
  readonly file: string;
  readonly bytes: number;
}

/**
 * The files to publish, sorted.
 *
 * @throws MlxkError `validation_error` for a link that leads out of the workspace (reason `link_leaves_workspace`) and
 * for a name that no repository should have (`file_name_refused`).
 */
export async function publishedFiles(workspace: string): Promise<LocalFile[]> {
  const ignored = await ignoreRules(workspace);
  const root = await realpath(workspace);
  const files: LocalFile[] = [];
  const visit = async (folder: string): Promise<void> => {
    for (const entry of await readdir(path.join(workspace, folder), { withFileTypes: true })) {
      const name = path.posix.join(folder, entry.name);
      if (isIgnored(name, ignored)) continue;
      const file = path.join(workspace, name);
      if (entry.isDirectory()) {
        await visit(name);
        continue;
      }
      if (entry.isSymbolicLink()) await checkLink(root, file, name);
      const stats = await stat(file);
      if (stats.isFile()) files.push({ path: name, file, bytes: stats.size });
    }
  };
  await visit('');
  const names = files.map((file) => file.path);
  checkFileNames(path.basename(workspace), names);
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Lines of `.hfignore` but blank ones and comments, each once, in their order. */
async function ignoreRules(workspace: string): Promise<string[]> {
  const text = await readFile(path.join(workspace, IGNORE_FILE), 'utf8').catch(() => '');
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  return [...new Set(lines.filter((line) => line !== '' && !line.startsWith('#')))];
}

/** A rule fits a whole path, a folder above it, or, without a slash in it, any single name on the way. */
function isIgnored(name: string, rules: readonly string[]): boolean {
  const parts = name.split('/');
  if (parts.some((part) => matchesAny(part, NEVER))) return true;
  const single = rules.filter((rule) => !rule.slice(0, -1).includes('/')).map(withoutSlash);
  if (parts.some((part) => matchesAny(part, single))) return true;
  const prefixes = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
  return prefixes.some((prefix) => matchesAny(prefix, rules.map(withoutSlash)));
}

function withoutSlash(rule: string): string {
  return rule.replace(/^\/|\/$/g, '');
}

async function checkLink(root: string, file: string, name: string): Promise<void> {
  const target = await realpath(file).catch(() => undefined);
  if (target?.startsWith(root + path.sep) === true) return;
  throw new MlxkError(
    'validation_error',
    `${shown(name)} is a link that leads out of the workspace: put the file in its place, or name it in ${IGNORE_FILE}`,
    { reason: 'link_leaves_workspace', detail: { file: name } },
  );
}
