// See trace-loads.mjs: runs in Node's thread for loading.

import { appendFileSync } from 'node:fs';

export async function load(url, context, next) {
  appendFileSync(process.env.TRACE_LOADS, `${url}\n`);
  return await next(url, context);
}
