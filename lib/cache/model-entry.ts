/**
 * Everything a list tells about one model, from its files.
 */

import path from 'node:path';

import { capabilitiesOf, frameworkOf, modelTypeOf } from './classify.js';
import { compatibilityOf } from './compatibility.js';
import { healthOf } from './health.js';
import { statsOf } from './layout.js';
import { isCommit, type LocatedModel } from './locate.js';
import { isObject, ModelFolder } from './model-folder.js';
import type { Health, ModelEntry, WorkspaceFacts } from './types.js';

const NOT_A_WORKSPACE: WorkspaceFacts = {
  managed: false,
  origin: null,
  contentHash: null,
  hashModified: null,
  clean: null,
};

/** The folder that a located model's files lie in: its snapshot, else what there is of its repository. */
export function folderOf(located: LocatedModel): string {
  if (located.kind === 'workspace') return located.folder;
  return located.snapshot?.folder ?? located.model.folder;
}

/** Reads a model's files; never throws for what they hold. */
export async function modelEntry(located: LocatedModel): Promise<ModelEntry> {
  const folder = folderOf(located);
  const files = new ModelFolder(folder);
  const name = located.kind === 'workspace' ? path.basename(located.folder) : located.name;
  const health = integrity(located, files);
  const framework = frameworkOf(files, name);
  const modelType = modelTypeOf(files, name);
  const capabilities = capabilitiesOf(files, name, modelType);
  const runtime = compatibilityOf(files, { name, health, framework, capabilities });
  const facts = located.kind === 'workspace' ? await factsOf(located.folder) : NOT_A_WORKSPACE;
  const revision = located.kind === 'cache' ? located.snapshot?.revision : undefined;
  return {
    name: located.name,
    hash: revision !== undefined && isCommit(revision) ? revision : null,
    sizeBytes: files.sizeBytes,
    lastModified: modifiedAt(folder),
    framework,
    modelType,
    capabilities,
    health: health.healthy ? 'healthy' : 'unhealthy',
    runtimeCompatible: runtime.compatible,
    reason: health.healthy ? runtime.reason : health.reason,
    cached: located.kind === 'cache',
    origin: facts.origin,
    contentHash: facts.contentHash,
    hashModified: facts.hashModified,
    clean: facts.clean,
  };
}

/** Most machines have no workspace, and what reads their files takes as long to load as to list some models. */
async function factsOf(folder: string): Promise<WorkspaceFacts> {
  const { workspaceFacts } = await import('../workspace/facts.js');
  return await workspaceFacts(folder);
}

/** Health of a located model: a repository of the cache may have no snapshot at all. */
export function healthOfLocated(located: LocatedModel): Health {
  return integrity(located, new ModelFolder(folderOf(located)));
}

function integrity(located: LocatedModel, files: ModelFolder): Health {
  if (located.kind === 'workspace') {
    if (files.has('config.json')) return healthOf(files);
    return { healthy: false, reason: 'No config.json found in workspace' };
  }
  if (located.snapshot !== undefined) return healthOf(files);
  const snapshots = path.join(located.model.folder, 'snapshots');
  const has = statsOf(snapshots)?.isDirectory() ?? false;
  return { healthy: false, reason: has ? 'No snapshots found' : 'No snapshots directory found' };
}

/** `quantization` of config.json, when it is an object. */
export function quantizationOf(files: ModelFolder): Readonly<Record<string, unknown>> | undefined {
  const { quantization } = files.members('config.json');
  return isObject(quantization) ? quantization : undefined;
}

/** UTC without fractions, as the contract has it. */
function modifiedAt(folder: string): string {
  const time = statsOf(folder)?.mtime ?? new Date(0);
  return `${time.toISOString().slice(0, 19)}Z`;
}
