/**
 * Where the reference data lies and what it looks like. Knows files only; no model type and no tolerance of a test.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Scores and greedy answer of the reference for one prompt. */
export interface GoldenRun {
  prompt: number[];
  /** Scores after the prompt, [vocab]. */
  first_logits: number[];
  greedy: number[];
  /** Natural-log probability of each greedy id. */
  logprobs: number[];
  /** Best minus second-best logprob of each step. */
  margins: number[];
  /** Scores after the prompt and all greedy ids, [vocab]. */
  last_logits: number[];
}

/** Sampled ids of the reference. */
export interface GoldenSample {
  prompt: number[];
  seed: number;
  temperature: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  tokens: number[];
}

export interface Golden {
  model_type: string;
  /** Type of the weights on disk where it is not float32; the reference computed in float32 all the same. */
  weights?: 'float32' | 'float16' | 'bfloat16';
  /** How the weights are quantized, as the case asks for it. */
  quantize?: object | null;
  /** How the reference packs keys and values, from the first token on. */
  kv?: { bits: number; group_size: number } | null;
  /** How far the reference goes from these scores in 16 bits: those of the weights, or else bfloat16. */
  own_error?: number;
  runs: GoldenRun[];
  samples?: GoldenSample[];
}

export interface GoldenCase {
  name: string;
  folder: string;
  golden: Golden;
  /** Folder of the adapter that the reference ran with. */
  adapter: string | undefined;
}

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

/** The repository's own cases. */
export const ownGoldens = path.join(repository, 'test', 'goldens');

/**
 * Folders of cases: the repository's own, and the one MLXK_GOLDEN_DIR names or else `../shared/golden` beside the
 * repository where that exists.
 */
export function goldenFolders(): string[] {
  const named = process.env['MLXK_GOLDEN_DIR'];
  if (named !== undefined && named !== '') return [ownGoldens, path.resolve(named)];
  const beside = path.resolve(repository, '..', 'shared', 'golden');
  return existsSync(beside) ? [ownGoldens, beside] : [ownGoldens];
}

/** The cases in a folder, by name; at least one. */
export function goldenCases(folder: string): GoldenCase[] {
  const cases = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => path.join(folder, entry.name))
    .filter((caseFolder) => existsSync(path.join(caseFolder, 'golden.json')))
    .map((caseFolder) => ({
      name: path.basename(caseFolder),
      folder: caseFolder,
      golden: JSON.parse(readFileSync(path.join(caseFolder, 'golden.json'), 'utf8')) as Golden,
      adapter: [path.join(caseFolder, 'adapters')].find((name) => existsSync(name)),
    }));
  if (cases.length === 0) throw new Error(`${folder} holds no golden cases`);
  return cases.sort((a, b) => a.name.localeCompare(b.name));
}
