// Preloaded into a program under test: writes what it loads to the file named by TRACE_LOADS, one module a line.

import { appendFileSync } from 'node:fs';
import { register } from 'node:module';

register('./trace-loads-hooks.mjs', import.meta.url);

const { dlopen } = process;
process.dlopen = (...args) => {
  appendFileSync(process.env.TRACE_LOADS, `${args[1]}\n`);
  return dlopen.apply(process, args);
};
