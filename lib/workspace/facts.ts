/**
 * What a workspace's sentinel tells of it, for lists.
 */

import { stringify } from 'lossless-json';

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

/** The fields of a managed workspace's sentinel, but for the list of its files; `null` for another folder. */
export async function workspaceMetadata(
  folder: string,
): Promise<Readonly<Record<string, unknown>> | null> {
  const sentinel = await Sentinel.read(folder);
  if (sentinel === undefined) return null;
  const fields = Object.entries(sentinel.raw).filter(([name]) => name !== 'file_index');
  return JSON.parse(stringify(Object.fromEntries(fields)) ?? 'null') as Record<string, unknown>;
}
