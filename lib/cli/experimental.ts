/**
 * The gate before what is experimental: closed unless its environment variable is set.
 */

import { CommandFailure } from './command.js';

/** Any value but the empty one opens the commands that are experimental. */
export const EXPERIMENTAL_VARIABLE = 'MLXK2_ENABLE_ALPHA_FEATURES';

/** @throws CommandFailure of type `CommandError` that names the variable. */
export function requireExperimental(
  command: string,
  env: Readonly<Record<string, string | undefined>> = process.env,
): void {
  if (env[EXPERIMENTAL_VARIABLE]) return;
  throw new CommandFailure({
    command,
    error: {
      type: 'CommandError',
      message: `${command} is experimental. Set ${EXPERIMENTAL_VARIABLE}=1 to use it`,
    },
  });
}
