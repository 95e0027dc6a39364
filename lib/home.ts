/**
 * The user's home folder, which a process in a container may lack. Depends on errors alone.
 */

import os from 'node:os';
import path from 'node:path';

import { MlxkError } from './errors.js';

/** The `reason` of the error that tells of no home. */
export const HOME_MISSING = 'home_missing';

/**
 * Absolute path.
 *
 * @throws MlxkError `validation_error` with reason `home_missing`: `HOME` is empty, or unset for a user of no name.
 */
function homeFolder(): string {
  let home: string;
  try {
    home = os.homedir();
  } catch (cause) {
    throw missing(cause);
  }
  // An empty or relative HOME would mean another cache in every folder.
  if (!path.isAbsolute(home)) throw missing();
  return home;
}

function missing(cause?: unknown): MlxkError {
  return new MlxkError(
    'validation_error',
    'This user has no home folder. Set HOME, or HF_HOME to the folder of the Hugging Face cache.',
    { reason: HOME_MISSING, cause },
  );
}

/** `~` and `~/…` mean the home folder, as in a shell. */
export function expandHome(file: string): string {
  return file === '~' || file.startsWith('~/') ? path.join(homeFolder(), file.slice(1)) : file;
}
