/**
 * A hub server for the tests of one file, and an empty cache for each of them.
 */

import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';

import type { PullOptions } from '../../lib/cache/pull.js';
import { MlxkError } from '../../lib/errors.js';
import { type HubFile, HubServer } from './hub-server/index.js';
import { into } from './remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from './temporary.js';

export const hub = new HubServer();

/** The cache of the test that runs; it is not there yet. */
export let cache: string;

beforeAll(() => hub.start());
afterAll(() => hub.stop());
beforeEach(() => {
  cache = path.join(temporaryFolder(), 'hub');
});
afterEach(() => {
  hub.reset();
  hub.repositories.clear();
  hub.tokens.clear();
  removeTemporaryFolders();
});

export const options = (more: PullOptions = {}): PullOptions => into(cache, hub.endpoint, more);

/** The typed error that the work ends with. */
export async function failure(work: Promise<unknown>): Promise<MlxkError> {
  const error = await work.then(
    () => expect.fail('it did not fail'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MlxkError);
  return error as MlxkError;
}

export const total = (files: readonly HubFile[]): number =>
  files.reduce((sum, file) => sum + file.size, 0);
export const isShard = (file: string | undefined): boolean => /safetensors$/.test(file ?? '');
