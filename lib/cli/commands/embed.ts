/**
 * `mlxk embed`.
 */

import type { RegisterCommand } from '../command.js';
import { registerMissing } from '../not-implemented.js';

export const register: RegisterCommand = (program) => {
  registerMissing(program, { name: 'embed', what: 'turn text into vectors' });
};
