/**
 * `mlxk serve`, called `server` by versions 1 of MLX-Knife.
 */

import type { RegisterCommand } from '../command.js';
import { registerMissing } from '../not-implemented.js';

export const register: RegisterCommand = (program) => {
  registerMissing(program, {
    name: 'serve',
    aliases: ['server'],
    what: 'serve models over HTTP as OpenAI does',
  });
};
