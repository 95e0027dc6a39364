/**
 * What `pull` means by a name, and what is here of it already. Full ids are taken literally; only a name without owner
 * may stand for a cached model whose name it is a part of. Workspaces are never meant. Reads only.
 */

import { checkRepositoryId, checkRevision } from '../hub/names.js';
import { type CacheEnvironment, cachedModels, hubCacheFolder } from './layout.js';
import {
  ambiguous,
  currentSnapshot,
  type LocatedInCache,
  matchCached,
  snapshotAt,
  splitSpec,
} from './locate.js';
import { healthOfLocated } from './model-entry.js';
import type { Health } from './types.js';

export interface PullTarget {
  /** Hub id. */
  readonly id: string;
  /** Branch, tag or commit; absent for the one that is current. */
  readonly revision: string | undefined;
  /** Of the snapshot that is here; absent when none is. */
  readonly present: { readonly health: Health; readonly commit: string } | undefined;
}

/** @throws MlxkError `validation_error`, or `ambiguous_match` with the candidates. */
export function pullTarget(
  spec: string,
  option: string | undefined,
  env: CacheEnvironment = process.env,
): PullTarget {
  const { name, revision: suffix } = splitSpec(spec);
  const revision = option ?? suffix;
  checkRepositoryId(name);
  if (revision !== undefined) checkRevision(revision);
  const matches = name.includes('/')
    ? cachedModels(hubCacheFolder(env)).filter(({ id }) => id === name)
    : matchCached(name, env);
  if (matches.length > 1) {
    throw ambiguous(
      spec,
      matches.map(({ id }) => id),
    );
  }
  const [model] = matches;
  if (model === undefined) return { id: name, revision, present: undefined };
  const snapshot = revision === undefined ? currentSnapshot(model) : snapshotAt(model, revision);
  if (snapshot === undefined) return { id: model.id, revision, present: undefined };
  const located: LocatedInCache = { kind: 'cache', name: model.id, model, snapshot };
  const present = { health: healthOfLocated(located), commit: snapshot.revision };
  return { id: model.id, revision, present };
}
