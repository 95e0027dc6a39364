/**
 * The user's home folder, which a process in a container may lack. Depends on errors alone.
 */

import os from 'node:os';
import path from 'node:path';

import { MlxkError } from './errors.js';

/** @throws MlxkError `validation_error` with reason `home_missing` for a user of no name without `HOME`. */
export function homeFolder(): string {
  try {
    return os.homedir();
  } catch (cause) {
    throw new MlxkError(
      'validation_error',
      'This user has no home folder. Set HOME, or HF_HOME to the folder of the Hugging Face cache.',
      { reason: 'home_missing', cause },
    );
  }
}

/** `~` and `~/…` mean the home folder, as in a shell. */
export function expandHome(file: string): string {
  return file === '~' || file.startsWith('~/') ? path.join(homeFolder(), file.slice(1)) : file;
}
