import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { mlxk, program, run } from '../helpers/child.js';
import { parseEnvelope } from '../helpers/schemas.js';

const manifest = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** Runs a further name of the program. */
function called(name: string, ...args: string[]): ReturnType<typeof run> {
  return run(process.execPath, [path.join(path.dirname(program), `${name}.js`), ...args]);
}

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
      expect(parseEnvelope(stdout)).toMatchObject({
        status: 'success',
        command: 'version',
        data: { cli_version: manifest.version, json_api_spec_version: '0.2.3' },
        error: null,
      });
      expect((await mlxk(['version', '--json'])).stdout).toBe(stdout);
    },
  );

  it('names the engine in its JSON, and what of it cannot be', async () => {
    const engine = async (env: Record<string, string>) =>
      parseEnvelope((await mlxk(['version', '--json'], { env })).stdout).data!.engine;
    expect(await engine({ MLXK_THREADS: '3' })).toEqual({
      mlx_version: expect.stringMatching(/^0\.32\./) as string,
      backend: expect.stringMatching(/^(cpu|metal|cuda)$/) as string,
      device: expect.stringMatching(/^(cpu|gpu)$/) as string,
      cpu_isa: expect.stringMatching(/^(portable|x86-64-v3|avx512|neon)/) as string,
      cpu_threads: 3,
    });
    expect(await engine({ MLXK_KERNELS: 'off' })).toMatchObject({ cpu_isa: 'off' });
    expect(await engine({ MLXK_CPU_ISA: 'sse9' })).toMatchObject({
      mlx_version: expect.any(String) as string,
      cpu_isa: null,
      cpu_threads: null,
    });
  });

  it('explains itself without a command, with exit code 2', async () => {
    const ended = await mlxk([]);
    expect(ended).toMatchObject({ code: 2, stderr: '' });
    expect(ended.stdout).toContain('Usage: mlxk');
  });

  it('says in JSON that there is no command', async () => {
    const { code, stdout, stderr } = await mlxk(['--json']);
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(parseEnvelope(stdout)).toEqual({
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
    expect(parseEnvelope(asJson.stdout)).toMatchObject({
      status: 'error',
      command: null,
      error: { type: 'CommandError', message: expect.stringContaining(meant) as string },
    });
  });

  it.each([
    [
      ['run', '--temperature', 'hot', 'x'],
      /argument 'hot' is invalid. It must be a number from 0 to 100\./,
    ],
    [['run', '--temperature', '-1', 'x'], /'-1' is invalid. It must be a number from 0 to 100\./],
    [['run', '--temperature', '', 'x'], /It must be a number/],
    [['run', '--max-tokens', '1.5', 'x'], /'1.5' is invalid. It must be a whole number from 1 to /],
    [['run', '--top-p', '0', 'x'], /It must be a number above 0/],
    [['run', '--seed', 'x', 'x'], /whole number/],
    [['run', '--seed', '99999999999999999999', 'x'], /It must be a whole number/],
    [['run', '--stop', '', 'x'], /It must be free of empty strings/],
    [['run', 'x', '--max-tokens'], /argument missing/],
  ])('refuses %j with exit code 2', async (args, message) => {
    const ended = await mlxk(args);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toMatch(message);
  });
});

describe('the further names of the program', () => {
  it('mlxk2 is the same and says so', async () => {
    expect((await called('mlxk2', '--version')).stdout).toBe(`mlxk2 ${manifest.version}\n`);
    expect((await called('mlxk2')).stdout).toContain('Usage: mlxk2');
  });

  it('mlxk-json speaks JSON', async () => {
    const { stdout, stderr, code } = await called('mlxk-json', 'version');
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    expect(parseEnvelope(stdout).command).toBe('version');
    expect(parseEnvelope((await called('mlxk-json', 'nonsense')).stdout).status).toBe('error');
  });

  it('mlx-run is run', async () => {
    const ended = await called('mlx-run', 'builtin', 'What is 2 plus 3?', '--max-tokens', '8');
    expect(ended).toEqual(await mlxk(['run', 'builtin', 'What is 2 plus 3?', '--max-tokens', '8']));
    expect(ended.code).toBe(0);
  });

  it('are those of the package', () => {
    const { bin } = manifest as unknown as { bin: Record<string, string> };
    expect(Object.keys(bin).sort()).toEqual(['mlx-run', 'mlxk', 'mlxk-json', 'mlxk2']);
    for (const [name, file] of Object.entries(bin)) expect(file).toBe(`bin/${name}.js`);
  });
});

describe('every command', () => {
  const folder = fileURLToPath(new URL('../../dist/cli/commands/', import.meta.url));
  const commands = readdirSync(folder)
    .filter((name) => name.endsWith('.js'))
    .map((name) => path.basename(name, '.js'));

  it.each(commands)('%s explains itself, with examples where it does something', async (name) => {
    const { code, stdout, stderr } = await mlxk([name, '--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: mlxk ${name}`);
    expect(stdout).toContain('--json');
    expect(stdout).toMatch(/Examples:|Not implemented/);
  });

  it.each(commands)('%s refuses an option it does not know', async (name) => {
    const ended = await mlxk([name, '--no-such-option', '--json']);
    const { error, command } = parseEnvelope(ended.stdout);
    expect(ended.stderr).toBe('');
    expect([error!.type, command, ended.code]).toEqual(
      error!.type === 'not_implemented' ? ['not_implemented', name, 1] : ['CommandError', null, 2],
    );
  });

  it.each([
    [['show'], '<model>'],
    [['rm'], '<model>'],
    [['completion'], '<shell>'],
    [['push', '--private'], '<folder> <repository>'],
  ])('%j says which argument it misses, and how it is called', async (words, args) => {
    const ended = await mlxk(words);
    expect(ended).toMatchObject({ code: 2, stdout: '' });
    expect(ended.stderr).toContain('missing required argument');
    expect(ended.stderr).toContain(`Usage: mlxk ${words[0]!} [options] ${args}\n`);
    const asJson = await mlxk(['--json', ...words]);
    expect(asJson).toMatchObject({ code: 2, stderr: '' });
    const { command, error } = parseEnvelope(asJson.stdout);
    expect({ command, type: error!.type }).toEqual({ command: null, type: 'CommandError' });
    expect(error!.message).toContain('missing required argument');
  });

  it.each([['serve'], ['server'], ['embed']])('%s is not there yet', async (name) => {
    const ended = await mlxk([name, '--port', '8000', '--json']);
    expect(ended).toMatchObject({ code: 1, stderr: '' });
    expect(parseEnvelope(ended.stdout).error!.type).toBe('not_implemented');
  });
});
