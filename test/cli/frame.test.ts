import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { mlxk } from '../helpers/child.js';

const manifest = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

describe('the program', () => {
  it('tells its version', async () => {
    expect(await mlxk(['--version'])).toMatchObject({
      code: 0,
      stdout: `mlxk ${manifest.version}\n`,
      stderr: '',
    });
  });

  it.each([[['--version', '--json']], [['--json', '--version']]])(
    'tells its version as JSON for %j',
    async (args) => {
      const { code, stdout, stderr } = await mlxk(args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(JSON.parse(stdout)).toMatchObject({
        status: 'success',
        command: 'version',
        data: { cli_version: manifest.version, json_api_spec_version: '0.2.3' },
        error: null,
      });
    },
  );

  it('explains itself without a command, with exit code 2', async () => {
    const ended = await mlxk([]);
    expect(ended).toMatchObject({ code: 2, stderr: '' });
    expect(ended.stdout).toContain('Usage: mlxk');
  });

  it('says in JSON that there is no command', async () => {
    const { code, stdout, stderr } = await mlxk(['--json']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      status: 'error',
      command: null,
      data: null,
      error: { type: 'CommandError', message: 'No command specified' },
    });
  });

  it.each([
    [['--help'], 'Commands:'],
    [['run', '--help'], 'Examples:'],
    [['help', 'run'], '--max-tokens'],
  ])('explains itself for %j', async (args, text) => {
    const ended = await mlxk(args);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toContain(text);
  });

  it.each([
    [['rnu'], 'run'],
    [['run', '--temprature', '1', 'x'], '--temperature'],
    [['run', '--max-token', '5', 'x'], '--max-tokens'],
  ])('suggests what %j was meant to be, with exit code 2', async (args, meant) => {
    const ended = await mlxk(args);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toContain(`Did you mean ${meant}?`);
    const asJson = await mlxk([...args, '--json']);
    expect(asJson).toMatchObject({ code: 2, stderr: '' });
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      status: 'error',
      command: null,
      error: { type: 'CommandError', message: expect.stringContaining(meant) as string },
    });
  });

  it.each([
    [['run', '--temperature', 'hot', 'x'], /temperature must be .* got NaN/],
    [['run', '--temperature', '-1', 'x'], /temperature must be .* got -1/],
    [['run', '--temperature', '', 'x'], /temperature must be/],
    [['run', '--max-tokens', '1.5', 'x'], /maxTokens must be .* got 1.5/],
    [['run', '--top-p', '0', 'x'], /topP must be/],
    [['run', '--seed', 'x', 'x'], /whole number/],
    [['run', '--seed', '99999999999999999999', 'x'], /seed must be/],
    [['run', '--stop', '', 'x'], /stop must be/],
    [['run', 'x', '--max-tokens'], /argument missing/],
  ])('refuses %j with exit code 2', async (args, message) => {
    const ended = await mlxk(args);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toMatch(message);
  });
});
