import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { checkCache } from '../../lib/doctor/cache.js';
import { CHAT_MODEL, FixtureCache, writeFiles } from '../helpers/fixture-cache.js';
import { HubServer } from '../helpers/hub-server/index.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const TOKEN = 'hf_goodToken';

interface Check {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  readonly fix: string | null;
}

let hub: HubServer;
let cache: FixtureCache;

beforeAll(async () => {
  hub = await new HubServer().start();
  hub.tokens.set(TOKEN, 'somebody');
});
afterAll(async () => {
  await hub.stop();
});
beforeEach(() => {
  hub.reset();
  cache = new FixtureCache();
  cache.env = { ...cache.env, HF_HUB_OFFLINE: '', HF_ENDPOINT: hub.endpoint, HF_TOKEN: TOKEN };
});
afterEach(removeTemporaryFolders);

async function checks(): Promise<Check[]> {
  const { code, data, stdout } = await cache.json(['doctor']);
  expect(code).toBe(0);
  const found = (data as unknown as { checks: Check[] }).checks;
  expect(data!.summary).toEqual(
    Object.fromEntries(
      ['ok', 'warning', 'error', 'skipped'].map((status) => [
        status,
        found.filter((check) => check.status === status).length,
      ]),
    ),
  );
  expect(stdout).not.toContain(TOKEN);
  return found;
}

async function check(name: string): Promise<Check> {
  return (await checks()).find((entry) => entry.name === name)!;
}

describe('an installation in order', () => {
  it('is told to a program', async () => {
    cache.add('org/model', CHAT_MODEL);
    const found = await checks();
    const statuses = Object.fromEntries(found.map(({ name, status }) => [name, status]));
    expect(statuses).toMatchObject({
      platform: 'ok',
      engine: 'ok',
      libmlx: 'ok',
      cache: 'ok',
      models: 'ok',
      hub: 'ok',
      token: 'ok',
    });
    expect(Object.keys(statuses)).toEqual(expect.arrayContaining(['processor', 'memory', 'disk']));
    expect(found.find(({ name }) => name === 'libmlx')!.message).toMatch(/^\d+\.\d+\.\d+/);
    expect(found.find(({ name }) => name === 'token')!.message).toBe('valid, of somebody');
  });

  it('is told to a person', async () => {
    const { code, stdout, stderr } = await cache.run(['doctor']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^ok {7}platform {3}\w+-\w+, Node \d+/m);
    expect(stdout).toContain(`ok       hub        ${hub.endpoint} answers\n`);
  });
});

describe('the engine', () => {
  it('names the instruction set of its kernels, and a variable that asks for what cannot be', async () => {
    expect((await check('kernels')).message).toMatch(/^\S+, \d+ threads$/);
    cache.env.MLXK_CPU_ISA = 'none-such';
    expect(await check('kernels')).toMatchObject({ status: 'error', fix: 'unset MLXK_CPU_ISA' });
  });
});

describe('the hub', () => {
  it('is not asked when offline', async () => {
    cache.env.HF_HUB_OFFLINE = '1';
    expect((await check('hub')).status).toBe('skipped');
    expect(hub.requests).toEqual([]);
  });

  it('that does not answer is a warning', async () => {
    cache.env.HF_ENDPOINT = 'http://127.0.0.1:9';
    expect(await check('hub')).toMatchObject({
      status: 'warning',
      fix: 'curl -I http://127.0.0.1:9',
    });
  });

  it.each(['<html>Sign in</html>', '', 'null'])('that says %j is a warning too', async (body) => {
    hub.faults.add(() => true, { kind: 'status', status: 200, body });
    const found = await check('hub');
    expect(found.status).toBe('warning');
    expect(found.message).not.toContain('mlxk doctor');
  });

  it('whose address is none is an error', async () => {
    cache.env.HF_ENDPOINT = 'not a url';
    expect(await check('hub')).toMatchObject({ status: 'error', fix: 'unset HF_ENDPOINT' });
  });

  it('that redirects to another host does not hand it the token', async () => {
    hub.faults.add(() => true, { kind: 'redirect', to: `${hub.cdn}/elsewhere` });
    await checks();
    const elsewhere = hub.requests.filter(({ host }) => host === 'cdn');
    expect(elsewhere.length).toBeGreaterThan(0);
    expect(elsewhere.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
  });
});

describe('the token', () => {
  it.each([
    ['', 'ok', null],
    ['hf_unknown', 'error', 'hf auth login'],
    ['hf_\u0001', 'error', 'hf auth login'],
  ])('%j is %s', async (token, status, fix) => {
    cache.env.HF_TOKEN = token;
    expect(await check('token')).toMatchObject({ status, fix });
  });

  it('is found where the hub tools keep it', async () => {
    cache.env.HF_TOKEN = '';
    writeFileSync(path.join(cache.home, 'token'), `${TOKEN}\n`);
    expect((await check('token')).message).toBe('valid, of somebody');
  });
});

describe('the cache', () => {
  it('lists what is not whole, with the command that mends it', async () => {
    cache.add('org/broken', {});
    writeFiles(path.join(cache.repository('org/half'), 'blobs'), { 'x.incomplete': '12345' });
    mkdirSync(path.join(cache.hub, "models--evil--$(x)'--y"));
    const found = (await checks()).filter(({ status }) => status === 'warning');
    expect(found.map(({ name, message, fix }) => [name, message, fix])).toEqual([
      ['model', "evil/$(x)'/y: No snapshots directory found", `mlxk rm 'evil/$(x)'\\''/y'`],
      ['model', 'org/broken: config.json missing', 'mlxk pull org/broken --force-resume'],
      ['model', 'org/half: No snapshots directory found', 'mlxk pull org/half --force-resume'],
      ['download', 'org/half: 1 unfinished file(s), 5B', 'mlxk pull org/half --force-resume'],
    ]);
  });

  it('may not be there yet, but not be a file', async () => {
    expect((await check('cache')).message).toContain('the first pull makes it');
    writeFileSync(cache.hub, 'x');
    expect(await check('cache')).toMatchObject({ status: 'error' });
  });

  it('has to be readable and writable', async () => {
    mkdirSync(cache.hub);
    chmodSync(cache.hub, 0o555);
    chmodSync(cache.home, 0o755);
    // The superuser may do anything, so it becomes nobody for a while.
    const isRoot = process.getuid!() === 0;
    const asNobody = async (): Promise<unknown> => {
      if (!isRoot) return await checkCache(cache.env);
      process.seteuid!(65_534);
      try {
        return await checkCache(cache.env);
      } finally {
        process.seteuid!(0);
      }
    };
    for (const [mode, what] of [
      [0o555, 'written to'],
      [0o000, 'read'],
    ] as const) {
      chmodSync(cache.hub, mode);
      expect(await asNobody()).toContainEqual({
        name: 'cache',
        status: 'error',
        message: `${cache.hub} may not be ${what}`,
        fix: `sudo chown -R "$USER" ${cache.hub}`,
      });
    }
    chmodSync(cache.home, 0o000);
    expect(await asNobody()).toMatchObject([{ name: 'cache', status: 'error' }]);
    chmodSync(cache.home, 0o755);
  });

  it('beside a workspace home that is not there', async () => {
    cache.env.MLXK_WORKSPACE_HOME = path.join(cache.home, 'my spaces');
    expect(await check('workspaces')).toMatchObject({
      status: 'warning',
      fix: `mkdir -p '${cache.home}/my spaces'`,
    });
  });
});
