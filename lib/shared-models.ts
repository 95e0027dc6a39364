/**
 * Models that `generate('org/model', …)` loads by name: one per folder, shared by the calls that use it at the same
 * time, kept for a while after the last of them. Models from `load` belong to their caller and never come here.
 */

import { resolveModel } from './cache/names.js';
import { Generation, type GenerationPlan, type GenerationSource } from './generation.js';
import type { Input } from './input.js';
import { loadResolved } from './load.js';
import type { Model } from './model.js';
import {
  type GenerateOptions,
  type GenerateSettings,
  parseGenerateOptions,
  parseLoadOptions,
  wrongType,
} from './options.js';

/** Long enough for the next turn of a conversation, short enough that memory comes back by itself. */
const IDLE_MS = 5 * 60_000;

interface SharedModel {
  readonly folder: string;
  readonly model: Promise<Model>;
  users: number;
  idleTimer: NodeJS.Timeout | undefined;
}

const shared = new Map<string, SharedModel>();

/** Answers with the model of that name, loading it unless it is loaded. */
export function generateShared(
  nameOrFolder: string,
  input: Input,
  options?: GenerateOptions,
): Generation {
  return new Generation((): GenerationSource => {
    const settings = parseGenerateOptions(options);
    if (typeof nameOrFolder !== 'string') {
      throw wrongType('model', "a model's name, a folder or a loaded model", nameOrFolder);
    }
    let held: SharedModel | undefined;
    return {
      signal: settings.signal,
      plan: async () => {
        held = await acquire(nameOrFolder);
        return await planWith(held, input, settings);
      },
      released: () => {
        if (held !== undefined) release(held);
      },
    };
  });
}

async function planWith(
  held: SharedModel,
  input: Input,
  settings: GenerateSettings,
): Promise<GenerationPlan> {
  const model = await held.model;
  settings.signal?.throwIfAborted();
  return await model.plan(input, settings);
}

async function acquire(nameOrFolder: string): Promise<SharedModel> {
  const resolved = await resolveModel(nameOrFolder);
  let entry = shared.get(resolved.folder);
  if (entry === undefined) {
    await disposeIdle();
    // Another call may have begun to load the same model meanwhile.
    entry = shared.get(resolved.folder);
  }
  if (entry === undefined) {
    const model = loadResolved(resolved, parseLoadOptions(undefined));
    entry = { folder: resolved.folder, model, users: 0, idleTimer: undefined };
    shared.set(resolved.folder, entry);
  }
  clearTimeout(entry.idleTimer);
  entry.users += 1;
  return entry;
}

function release(entry: SharedModel): void {
  entry.users -= 1;
  if (entry.users > 0) return;
  entry.idleTimer = setTimeout(() => void dispose(entry), IDLE_MS);
  entry.idleTimer.unref();
  // A load that failed is forgotten at once, so that the next call tries again.
  entry.model.catch(() => void dispose(entry));
}

/** Frees the models nobody uses, so that another one finds room. */
async function disposeIdle(): Promise<void> {
  await Promise.all([...shared.values()].filter(({ users }) => users === 0).map(dispose));
}

async function dispose(entry: SharedModel): Promise<void> {
  if (entry.users > 0) return;
  clearTimeout(entry.idleTimer);
  if (shared.get(entry.folder) === entry) shared.delete(entry.folder);
  const model = await entry.model.catch(() => undefined);
  await model?.dispose();
}
