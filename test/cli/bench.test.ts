/** `mlxk bench`: figures of a real model, and a report line that the contract's schema accepts. */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { program, run } from '../helpers/child.js';
import { parseEnvelope, violations } from '../helpers/schemas.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const QUICK = ['--runs', '2', '--prompt-tokens', '40', '--max-tokens', '12'];

afterAll(removeTemporaryFolders);

function bench(cwd: string, ...args: string[]) {
  return run(process.execPath, [program, 'bench', 'builtin', ...QUICK, ...args], { cwd });
}

function lines(file: string): unknown[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
}

describe('mlxk bench', () => {
  it('prints medians and adds a line to the report of the day', async () => {
    const folder = temporaryFolder();
    const { code, stdout, stderr } = await bench(folder);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^builtin: qwen3, 8-bit, 4 layers\n/);
    expect(stdout).toMatch(/prompt +[\d.]+ tokens\/s \([\d.]+ to [\d.]+\), 40 tokens/);
    expect(stdout).toMatch(/answer +[\d.]+ tokens\/s \([\d.]+ to [\d.]+\), 12 tokens/);

    const reports = path.join(folder, 'benchmarks', 'reports');
    const [name, ...others] = readdirSync(reports);
    expect(others).toEqual([]);
    expect(name).toMatch(/^\d{4}-\d\d-\d\d-v\d+\.\d+\.\d+.*\.jsonl$/);
    const [line] = lines(path.join(reports, name!));
    expect(violations(line, 'report-0.2.2.json')).toEqual([]);
    expect(line).toMatchObject({
      schema_version: '0.2.2',
      test: 'bench[builtin]',
      outcome: 'passed',
      performance: { prompt_tokens: 40, completion_tokens: 12 },
    });
  });

  it('speaks JSON, and appends to the file it is told', async () => {
    const folder = temporaryFolder();
    const file = path.join(folder, 'new', 'report.jsonl');
    for (const count of [1, 2]) {
      const { code, stdout, stderr } = await bench(folder, '--json', '--report', file);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const { status, command, data } = parseEnvelope(stdout);
      expect({ status, command, report: data!.report }).toEqual({
        status: 'success',
        command: 'bench',
        report: file,
      });
      expect(data!.runs).toHaveLength(2);
      for (const figure of ['tokens_per_second', 'prompt_tokens_per_second', 'first_token_ms']) {
        expect(data![figure]).toBeGreaterThan(0);
      }
      expect(lines(file)).toHaveLength(count);
    }
  });

  it('tells what it measured when the report cannot be written', async () => {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, 'taken'), '');
    const file = path.join(folder, 'taken', 'report.jsonl');
    const { code, stdout, stderr } = await bench(folder, '--report', file);
    expect(code).toBe(1);
    expect(stdout).toContain('tokens/s');
    expect(stderr).toMatch(/^bench: Error: .*taken/);
    const asJson = parseEnvelope((await bench(folder, '--report', file, '--json')).stdout);
    expect(asJson).toMatchObject({ status: 'error', error: { type: 'internal_error' } });
    expect(asJson.data!.runs).toHaveLength(2);
  });

  it('writes nothing where no report is wanted, or the model is not there', async () => {
    const folder = temporaryFolder();
    expect((await bench(folder, '--no-report')).code).toBe(0);
    const missing = await run(process.execPath, [program, 'bench', 'org/none', '--json'], {
      cwd: folder,
    });
    expect(missing.code).toBe(1);
    expect(parseEnvelope(missing.stdout)).toMatchObject({
      status: 'error',
      command: 'bench',
      error: { type: 'model_not_found' },
    });
    expect(existsSync(path.join(folder, 'benchmarks'))).toBe(false);
  });

  it.each(['0', '-1', '1.5', 'many', '1e3'])('refuses --runs %s', async (runs) => {
    const { code, stderr } = await run(process.execPath, [
      program,
      'bench',
      'builtin',
      '--runs',
      runs,
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain('--runs');
  });
});
