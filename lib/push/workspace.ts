/**
 * Which folder a push means: the one that is given, or the only workspace whose path starts like that.
 */

import { stat } from 'node:fs/promises';
import path from 'node:path';

import { isExplicitPath, pathOf } from '../cache/locate.js';
import { MlxkError } from '../errors.js';
import { visibleLine } from '../visible.js';
import { workspacesIn } from '../workspace/home.js';

/** @throws MlxkError `workspace_not_found`, or `ambiguous_workspace` with `detail.matches`. */
export async function pushedFolder(spec: string): Promise<string> {
  const folder = pathOf(spec);
  if (spec !== '' && (await stat(folder).catch(() => undefined))?.isDirectory() === true)
    return folder;
  const matches = isExplicitPath(spec) ? await startingWith(folder) : [];
  const [match, ...others] = matches;
  if (match === undefined) {
    throw new MlxkError('workspace_not_found', `there is no workspace at ${visibleLine(spec)}`, {
      reason: 'folder_missing',
      detail: { folder: spec },
    });
  }
  if (others.length > 0) {
    throw new MlxkError(
      'ambiguous_workspace',
      `"${visibleLine(spec)}" could be ${matches.map(visibleLine).join(', ')}`,
      { reason: 'ambiguous_path', detail: { matches } },
    );
  }
  return match;
}

async function startingWith(prefix: string): Promise<string[]> {
  const workspaces = await workspacesIn(path.dirname(prefix));
  return workspaces
    .filter(({ name }) => name.startsWith(path.basename(prefix)))
    .map(({ folder }) => folder);
}
