import { appendFileSync, mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { push } from '../../lib/push/push.js';
import type { MlxkError } from '../../lib/errors.js';
import { CHAT_MODEL, type Files, writeFiles } from '../helpers/fixture-cache.js';
import { hubFile, HubServer, type Repository } from '../helpers/hub-server/index.js';
import { RemoteCache } from '../helpers/remote-cache.js';
import { everythingIn, noise } from '../helpers/remote-model.js';
import { removeTemporaryFolders } from '../helpers/temporary.js';

const server = new HubServer();
let cache: RemoteCache;
let workspace: string;

const FILES: Files = {
  ...CHAT_MODEL,
  'model.safetensors': noise(300_000, 'weights'),
  'extra/notes.txt': 'notes',
};

beforeAll(() => server.start());
afterAll(() => server.stop());
beforeEach(() => {
  cache = new RemoteCache(server);
  workspace = path.join(cache.home, 'model');
  writeFiles(workspace, FILES);
  server.tokens.set('hf_me', 'me');
  cache.env = { ...cache.env, HF_TOKEN: 'hf_me', MLXK2_ENABLE_ALPHA_FEATURES: '1' };
});
afterEach(() => {
  server.reset();
  server.repositories.clear();
  server.tokens.clear();
  server.uploads.clear();
  removeTemporaryFolders();
});

const args = (...more: string[]): string[] => ['push', workspace, 'me/model', '--private', ...more];

/** A private repository of ours with what the workspace has, or other files. */
function repository(files: Files = FILES): Repository {
  const made = server.add(
    'me/model',
    Object.entries(files).map(([name, content]) =>
      hubFile(
        name,
        typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content),
      ),
    ),
    { private: true },
  );
  made.readers.add('hf_me');
  return made;
}

const contentOf = (name: string): Buffer | undefined => {
  const made = server.repositories.get('me/model')!;
  return made.file(made.resolve('main')!, name)?.content;
};

async function refused(...words: string[]): Promise<Record<string, unknown>> {
  const { code, error, data } = await cache.json(words);
  expect(code).toBe(1);
  return { ...error, data };
}

describe('a push is refused', () => {
  it('unless experimental features are on, with the variable named', async () => {
    cache.env = { ...cache.env, MLXK2_ENABLE_ALPHA_FEATURES: '' };
    const error = await refused(...args());
    expect(error.type).toBe('CommandError');
    expect(error.message).toContain('MLXK2_ENABLE_ALPHA_FEATURES');
  });

  it('unless it is said to be private', async () => {
    const { code, stderr } = await cache.run(['push', workspace, 'me/model']);
    expect({ code, named: stderr.includes('--private') }).toEqual({ code: 2, named: true });
  });

  it('without a token, and with one that is not valid', async () => {
    cache.env = { ...cache.env, HF_TOKEN: '' };
    expect(await refused(...args())).toMatchObject({
      type: 'auth_error',
      message: 'HF_TOKEN not set',
    });
    cache.env = { ...cache.env, HF_TOKEN: 'hf_other' };
    const error = await refused(...args());
    expect(error).toMatchObject({ type: 'auth_error' });
    expect(JSON.stringify(error)).not.toContain('hf_other');
    expect(server.repositories.size).toBe(0);
  });

  it('for a folder that is not there, and a start that several have', async () => {
    expect(await refused('push', './none', 'me/model', '--private')).toMatchObject({
      type: 'workspace_not_found',
    });
    for (const name of ['gemma-1', 'gemma-2', 'gemma-3'])
      writeFiles(path.join(cache.home, name), CHAT_MODEL);
    const error = await refused('push', path.join(cache.home, 'gemma-'), 'me/model', '--private');
    expect(error).toMatchObject({ type: 'ambiguous_workspace' });
    expect(error.matches).toHaveLength(3);
  });

  it('for a repository that is not there, unless it may make it', async () => {
    expect(await refused(...args())).toMatchObject({ type: 'repo_not_found' });
    expect(server.repositories.size).toBe(0);
  });

  it('for a branch that is not there, unless it may make it', async () => {
    repository();
    expect(await refused(...args('--branch', 'dev'))).toMatchObject({ type: 'upload_failed' });
  });

  it('for a repository that is public', async () => {
    repository().private = false;
    expect(await refused(...args())).toMatchObject({
      type: 'push_operation_failed',
      detail: { reason: 'repository_public' },
    });
  });

  it('for a link that leads out of the workspace', async () => {
    writeFileSync(path.join(cache.home, 'secret'), 'secret');
    symlinkSync('../secret', path.join(workspace, 'link'));
    repository();
    const error = await refused(...args());
    expect(error).toMatchObject({ type: 'validation_error', detail: { file: 'link' } });
  });
});

describe('a push', () => {
  it('makes a private repository and puts the files there in one commit', async () => {
    const { code, data } = await cache.json(args('--create'));
    expect(code).toBe(0);
    const made = server.repositories.get('me/model')!;
    expect(made.private).toBe(true);
    expect(data).toMatchObject({
      repo_id: 'me/model',
      branch: 'main',
      commit_sha: made.resolve('main'),
      no_changes: false,
      created_repo: true,
      uploaded_files_count: 5,
      local_files_count: 5,
      experimental: true,
      change_summary: { added: 5, modified: 0, deleted: 0 },
    });
    for (const [name, content] of Object.entries(FILES)) {
      const bytes =
        typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content);
      expect(contentOf(name)?.equals(Buffer.from(bytes)), name).toBe(true);
    }
  });

  it('uploads a large file in parts, and the token to no other host', async () => {
    server.partBytes = 100_000;
    repository({ 'README.md': 'x' });
    await cache.json(args()).finally(() => (server.partBytes = 1 << 20));
    expect(contentOf('model.safetensors')?.equals(FILES['model.safetensors'] as Buffer)).toBe(true);
    const uploads = server.requests.filter(
      ({ host, method }) => host === 'cdn' && method === 'PUT',
    );
    expect(uploads).toHaveLength(3);
    expect(new Set(uploads.map(({ headers }) => headers.authorization))).toEqual(
      new Set([undefined]),
    );
  });

  it('uploads only what changed, keeps what is only there, and deletes it when told', async () => {
    repository({ ...FILES, 'old.txt': 'old' });
    appendFileSync(path.join(workspace, 'extra', 'notes.txt'), ' and more');
    const human = await cache.run(args('--commit', 'notes'));
    expect(human).toMatchObject({ code: 0, stderr: '' });
    expect(human.stdout).toMatch(
      /^push \(experimental\): me\/model@main — commit [0-9a-f]{7} \(\+0 ~1 -0\)\n$/,
    );
    expect(contentOf('old.txt')?.toString()).toBe('old');
    expect(server.requests.filter(({ method }) => method === 'PUT')).toEqual([]);
    const { data } = await cache.json(args('--delete'));
    expect(data).toMatchObject({ change_summary: { added: 0, modified: 0, deleted: 1 } });
    expect(contentOf('old.txt')).toBeUndefined();
  });

  it('commits nothing where nothing changed', async () => {
    const made = repository();
    const { data } = await cache.json(args());
    expect(data).toMatchObject({ no_changes: true, commit_sha: null, uploaded_files_count: 0 });
    expect(made.commits.size).toBe(1);
    expect((await cache.run(args())).stdout).toBe(
      'push (experimental): me/model@main — no changes\n',
    );
  });

  it('makes a branch when told', async () => {
    const made = repository();
    writeFileSync(path.join(workspace, 'new.txt'), 'new');
    const { data } = await cache.json(args('--branch', 'dev', '--create'));
    expect(data).toMatchObject({
      branch: 'dev',
      created_repo: false,
      commit_sha: made.resolve('dev'),
    });
    expect(made.file(made.resolve('main')!, 'new.txt')).toBeUndefined();
  });

  it('leaves out what tools leave, its own sentinel, and what .hfignore names', async () => {
    repository({ 'README.md': 'x' });
    writeFiles(workspace, {
      '.mlxk_workspace.json': {},
      '.hf_cache/x': 'x',
      '.git/config': 'x',
      'a/__pycache__/b.pyc': 'x',
      '.DS_Store': 'x',
      'secret.txt': 'x',
      'private/deep/x': 'x',
      'logs/a.log': 'x',
      '.hfignore': '# comment\n\nsecret.txt\nprivate/\n*.log\n',
    });
    await cache.json(args());
    const made = server.repositories.get('me/model')!;
    const names = made.files(made.resolve('main')!).map((file) => file.path);
    expect(names.sort()).toEqual(['README.md', ...Object.keys(FILES)].sort());
  });

  it.each([
    ['the list', /\/tree\//],
    ['the question which files are large', /preupload/],
    ['the question where they go', /objects\/batch/],
    ['an upload', /\/upload\//],
    ['the commit', /\/commit\//],
  ])('that is cut at %s commits nothing, and works when done again', async (_, place) => {
    const made = repository({ 'README.md': 'x' });
    server.faults.add(({ path: asked }) => place.test(asked), { kind: 'status', status: 400 }, 10);
    expect(await refused(...args())).toMatchObject({ type: 'upload_failed' });
    expect(made.commits.size).toBe(1);
    server.faults.clear();
    expect((await cache.json(args())).data).toMatchObject({ no_changes: false });
  });

  it('of a file that changes meanwhile commits nothing', async () => {
    const made = repository({ 'README.md': 'x' });
    server.faults.add(({ path: asked }) => asked.includes('preupload'), {
      kind: 'call',
      call: () => appendFileSync(path.join(workspace, 'model.safetensors'), 'more'),
    });
    const options = { endpoint: server.endpoint, token: 'hf_me' };
    const error = await push(workspace, 'me/model', options).then(
      () => expect.fail('it was pushed'),
      (thrown: unknown) => thrown as MlxkError,
    );
    expect(error.code).toBe('upload_failed');
    expect(made.commits.size).toBe(1);
  });
});

describe('a dry run', () => {
  it('says what it would make, and makes nothing', async () => {
    const { data } = await cache.json(args('--dry-run', '--create'));
    expect(data).toMatchObject({
      dry_run: true,
      would_create_repo: true,
      dry_run_summary: { added: 5, deleted: 0 },
      commit_sha: null,
      no_changes: false,
    });
    expect(data!.added_files).toHaveLength(5);
    expect(server.repositories.size).toBe(0);
  });

  it('finds no changes', async () => {
    repository();
    const { data } = await cache.json(args('--dry-run'));
    expect(data).toMatchObject({
      no_changes: true,
      message: 'Dry-run: no changes',
      dry_run_summary: { added: 0, modified: 0, deleted: 0 },
    });
  });

  it('tells one extra on each side, and that a push does not delete', async () => {
    repository({ ...FILES, 'theirs.txt': 'x' });
    writeFileSync(path.join(workspace, 'ours.txt'), 'x');
    const { data } = await cache.json(args('--dry-run'));
    expect(data).toMatchObject({
      message: 'Dry-run: +1 ~? -1',
      dry_run_summary: { added: 1, modified: null, deleted: 1 },
      added_files: ['ours.txt'],
      deleted_files: ['theirs.txt'],
      would_delete_count: 0,
    });
    const { stdout } = await cache.run(args('--dry-run'));
    expect(stdout).toContain('dry-run: +1 ~? -1');
    expect(stdout).toContain('1 only on the hub: kept, unless --delete is given');
    expect(server.requests.filter(({ method }) => method !== 'GET')).toEqual([]);
  });
});

describe('check-only', () => {
  beforeEach(() => {
    cache.env = {
      ...cache.env,
      HF_TOKEN: '',
      HF_HUB_OFFLINE: '1',
      HF_ENDPOINT: 'http://127.0.0.1:9',
    };
  });
  const codes = (data: Record<string, unknown> | null): unknown[] =>
    (data!.workspace_health as { anomalies: { code: string }[] }).anomalies.map(({ code }) => code);

  it('works without network and token', async () => {
    const { code, data } = await cache.json(args('--check-only'));
    expect(code).toBe(0);
    expect(data).toMatchObject({
      workspace_health: {
        healthy: true,
        files_count: 5,
        config: { exists: true, valid_json: true },
        weights: { count: 1, formats: ['safetensors'], pattern_complete: null },
        anomalies: [],
      },
    });
  });

  it.each<[string, Files, boolean]>([
    [
      'lfs_pointer_detected',
      { 'model.safetensors': 'version https://git-lfs.github.com/spec/v1\noid x\n' },
      false,
    ],
    [
      'index_missing_shard',
      { 'model.safetensors.index.json': { weight_map: { a: 'gone.safetensors' } } },
      false,
    ],
    ['index_parse_error', { 'model.safetensors.index.json': 'nonsense' }, false],
    ['config_invalid_json', { 'config.json': '{' }, false],
    ['empty_weight_file', { 'other.safetensors': '' }, false],
    ['partial_marker', { 'model.safetensors.partial': 'x' }, true],
  ])('finds %s', async (code, files, healthy) => {
    writeFiles(workspace, files);
    const { data } = await cache.json(args('--check-only'));
    expect(codes(data)).toContain(code);
    expect(data).toMatchObject({ workspace_health: { healthy } });
  });

  it('finds a missing config, and weights of another kind sound', async () => {
    unlinkSync(path.join(workspace, 'config.json'));
    expect(codes((await cache.json(args('--check-only'))).data)).toEqual(['config_missing']);
    const gguf = path.join(cache.home, 'gguf');
    mkdirSync(gguf);
    writeFiles(gguf, { 'config.json': { model_type: 'llama' }, 'model.gguf': 'GGUF' });
    const { data } = await cache.json(['push', gguf, 'me/model', '--private', '--check-only']);
    expect(data).toMatchObject({
      workspace_health: { healthy: true, weights: { formats: ['gguf'] } },
    });
  });

  it('changes nothing', async () => {
    const before = everythingIn(cache.home);
    await cache.run(args('--check-only'));
    expect(everythingIn(cache.home)).toEqual(before);
  });
});
