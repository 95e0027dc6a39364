/**
 * Which names from outside may become part of a URL or of a path. Everything a stranger's repository can name is
 * checked here before a byte is written. Pure.
 */

import { MlxkError } from '../errors.js';
import { visibleLine } from '../visible.js';

/** The hub's own limit. */
const MAX_ID_LENGTH = 96;
/** Longest name of one file that file systems take. */
const MAX_SEGMENT_BYTES = 255;
const MAX_PATH_BYTES = 2048;
const SHOWN_CHARACTERS = 120;

/** C0, DEL, C1, and the marks that turn the direction of text. */
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i;

/** A name as a message can show it: in quotes, escaped, and not too long. */
export function shown(name: string): string {
  const cut = name.length > SHOWN_CHARACTERS ? `${name.slice(0, SHOWN_CHARACTERS)}…` : name;
  return visibleLine(JSON.stringify(cut));
}

/** @throws MlxkError `validation_error` unless it is an id the hub could have given: `name` or `org/name`. */
export function checkRepositoryId(id: string): void {
  const problem = problemOfId(id);
  if (problem === undefined) return;
  throw new MlxkError('validation_error', `${shown(id)} is no repository id: ${problem}`, {
    reason: 'repository_id_invalid',
    detail: { model: id },
  });
}

function problemOfId(id: string): string | undefined {
  if (id === '') return 'it is empty';
  const [, inAddress] = /^https?:\/\/[^/]+\/([^/?#]+\/[^/?#]+)/.exec(id) ?? [];
  if (inAddress !== undefined) return `it is an address; the id in it is ${shown(inAddress)}`;
  if (id.length > MAX_ID_LENGTH)
    return `it has ${id.length} characters, ${MAX_ID_LENGTH} are allowed`;
  if (id.startsWith('/') || id.endsWith('/')) return 'it starts or ends with a slash';
  const segments = id.split('/');
  if (segments.includes('')) return 'it has two slashes in a row';
  if (segments.length > 2) return 'it has more than one slash';
  if (!segments.every((segment) => /^[A-Za-z0-9_.-]+$/.test(segment))) {
    return 'only letters, digits, "-", "_" and "." are allowed';
  }
  // "--" stands for the slash in the cache's folder names.
  if (/--|\.\./.test(id)) return '"--" and ".." are not allowed';
  if (segments.some((segment) => /^[.-]|[.-]$/.test(segment))) {
    return 'no part may start or end with "-" or "."';
  }
  return undefined;
}

/** @throws MlxkError `validation_error` unless it can be a branch, a tag or a commit. */
export function checkRevision(revision: string): void {
  const segments = revision.split('/');
  if (
    revision.length <= 255 &&
    !revision.includes('..') &&
    segments.every((segment) => /^[A-Za-z0-9_+.@-]+$/.test(segment) && !/^[.-]|\.$/.test(segment))
  ) {
    return;
  }
  throw new MlxkError('validation_error', `${shown(revision)} is no branch, tag or commit`, {
    reason: 'revision_invalid',
    detail: { revision },
  });
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/**
 * Refuses a repository whose files could land anywhere but at their own place below its folder.
 *
 * @throws MlxkError `validation_error`, reason `file_name_refused`, with the name.
 */
export function checkFileNames(id: string, names: readonly string[]): void {
  const folded = new Map<string, string>();
  for (const name of names) {
    const problem = problemOfFileName(name);
    if (problem !== undefined) throw refusedName(id, name, problem);
    const key = name.normalize('NFC').toLowerCase();
    const twin = folded.get(key);
    if (twin !== undefined) {
      throw refusedName(id, name, `on some file systems it is the same as ${shown(twin)}`);
    }
    folded.set(key, name);
  }
  for (const [key, name] of folded) {
    for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', slash + 1)) {
      const folder = folded.get(key.slice(0, slash));
      if (folder !== undefined) throw refusedName(id, name, `${shown(folder)} is a file`);
    }
  }
}

function problemOfFileName(name: string): string | undefined {
  if (CONTROL.test(name)) return 'it has control characters';
  if (Buffer.from(name).toString() !== name) return 'it is no valid Unicode';
  if (name.includes('\\')) return 'it has a backslash';
  if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) return 'it is an absolute path';
  if (Buffer.byteLength(name) > MAX_PATH_BYTES) return 'it is too long';
  for (const segment of name.split('/')) {
    if (segment === '') return 'it has an empty part';
    if (segment === '.' || segment === '..') return `it has the part "${segment}"`;
    if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES) return 'a part of it is too long';
    if (/[. ]$/.test(segment)) return 'a part of it ends with a dot or a space';
    if (DEVICE.test(segment)) return 'a part of it is the name of a device';
  }
  return undefined;
}

function refusedName(id: string, name: string, problem: string): MlxkError {
  return new MlxkError('validation_error', `${id} has a file named ${shown(name)}: ${problem}`, {
    reason: 'file_name_refused',
    detail: { model: id, file: name },
  });
}
