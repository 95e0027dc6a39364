/**
 * What a workspace's sentinel tells of it, for lists.
 */

import type { WorkspaceFacts } from '../cache/types.js';
import { isClean } from './content-hash.js';
import { Sentinel } from './sentinel.js';

/** Reads the sentinel and compares names, sizes and times with it; never throws for what a folder holds. */
export async function workspaceFacts(folder: string): Promise<WorkspaceFacts> {
  const sentinel = await Sentinel.read(folder);
  return {
    managed: sentinel !== undefined,
    origin: sentinel?.sourceRepo ?? null,
    contentHash: sentinel?.contentHash ?? null,
    hashModified: sentinel?.hashModified ?? null,
    clean: sentinel === undefined ? null : await isClean(folder),
  };
}
