/**
 * Which files of a workspace do not count: tools, editors and file managers leave them. The list is written into the
 * sentinel when a workspace is hashed and governs that workspace from then on (mlx-knife ADR-025). Knows names only.
 */

/** A trailing slash marks folders; the rest are patterns of file names with `*` and `?`. */
export const DEFAULT_EXCLUSIONS: readonly string[] = [
  '.hf_cache/',
  '.mlxk_workspace.json',
  '.git/',
  '.github/',
  '__pycache__/',
  '.vscode/',
  '.idea/',
  '.ipynb_checkpoints/',
  '.mypy_cache/',
  '.pytest_cache/',
  '.ruff_cache/',
  '.tox/',
  'node_modules/',
  '.venv/',
  'venv/',
  '*.lock',
  '*.tmp',
  '*.log',
  '*.bak',
  '.DS_Store',
  '._*',
  '.Spotlight-V100/',
  '.Trashes/',
  '.fseventsd/',
  '.TemporaryItems/',
  '.apdisk',
  'Icon\r',
  'Thumbs.db',
  'desktop.ini',
  '$RECYCLE.BIN/',
  'System Volume Information/',
  '*~',
  '.*.swp',
  '.*.swo',
];

export class Exclusions {
  readonly #folders: string[];
  readonly #files: string[];

  constructor(patterns: readonly string[] = DEFAULT_EXCLUSIONS) {
    this.#folders = patterns.filter((p) => p.endsWith('/')).map((p) => p.slice(0, -1));
    this.#files = patterns.filter((p) => !p.endsWith('/'));
  }

  folder(name: string): boolean {
    return this.#folders.some((pattern) => fits(name, pattern));
  }

  file(name: string): boolean {
    return this.#files.some((pattern) => fits(name, pattern));
  }
}

/** Shell pattern against a name, in time proportional to both: the pattern may come from somebody's sentinel. */
function fits(name: string, pattern: string): boolean {
  let at = 0;
  let inPattern = 0;
  let star = -1;
  let afterStar = 0;
  while (at < name.length) {
    const wanted = pattern[inPattern];
    if (wanted === '*') {
      star = inPattern++;
      afterStar = at;
    } else if (wanted === '?' || wanted === name[at]) {
      inPattern++;
      at++;
    } else if (star >= 0) {
      inPattern = star + 1;
      at = ++afterStar;
    } else {
      return false;
    }
  }
  while (pattern[inPattern] === '*') inPattern++;
  return inPattern === pattern.length;
}
