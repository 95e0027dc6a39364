/**
 * What the hub tells: who asks, what a model is, which files it has, and the files.
 */

import type { HubServer } from './server.js';
import { find } from './faults.js';
import { etagOf, type HubFile, type Repository } from './repository.js';
import { type Answer, sendFile } from './transfer.js';

const API = /^\/api\/models\/(.+?)(?:\/(revision|tree|paths-info|refs)(?:\/(.*))?)?$/;
const RESOLVE = /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/;

/** Answers if it is a question this file knows. */
export async function answerRead(hub: HubServer, answer: Answer): Promise<boolean> {
  const { request } = answer;
  if (request.path === '/api/whoami-v2') {
    whoAmI(hub, answer);
    return true;
  }
  const resolve = RESOLVE.exec(request.path);
  if (resolve !== null && !request.path.startsWith('/api/')) {
    const [id, revision, file] = resolve.slice(1).map(decodeURIComponent);
    await answerFile(hub, answer, id!, revision!, file!);
    return true;
  }
  const api = API.exec(request.path);
  if (api === null || (request.method === 'POST' && api[2] !== 'paths-info')) return false;
  const [id, question = 'revision', rest = 'main'] = api
    .slice(1)
    .map((part) => part && decodeURIComponent(part));
  const repository = allowed(hub, answer, id!);
  if (repository === undefined) return true;
  if (question === 'refs') {
    const branches = [...repository.refs].map(([name, commit]) => ({
      name,
      ref: `refs/heads/${name}`,
      targetCommit: commit,
    }));
    json(answer, { branches, tags: [], converts: [] });
    return true;
  }
  const commit = repository.resolve(rest);
  if (commit === undefined) {
    refuse(answer, 404, 'RevisionNotFound', `Invalid rev id: ${rest}`);
  } else if (question === 'tree') {
    tree(hub, answer, repository.files(commit));
  } else if (question === 'revision') {
    json(answer, modelInfo(repository, commit));
  } else {
    json(answer, repository.files(commit).map(listed));
  }
  return true;
}

export function tokenOf({ request }: Answer): string | undefined {
  return /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
}

export function json({ request, response, faults }: Answer, body: unknown, headers = {}): void {
  request.status = 200;
  const lies = find(faults, 'headers')?.headers;
  response.writeHead(200, { 'content-type': 'application/json', ...headers, ...lies });
  response.end(JSON.stringify(body));
}

export function refuse(
  { request, response }: Answer,
  status: number,
  code: string,
  message: string,
): void {
  request.status = status;
  response.writeHead(status, {
    'content-type': 'application/json',
    ...(code && { 'x-error-code': code }),
    'x-error-message': message,
  });
  response.end(request.method === 'HEAD' ? undefined : JSON.stringify({ error: message }));
}

/** The repository, or `undefined` when the refusal is sent: strangers cannot tell a private one from none. */
export function allowed(hub: HubServer, answer: Answer, id: string): Repository | undefined {
  const token = tokenOf(answer);
  const repository = hub.repositories.get(id);
  if (token !== undefined && !hub.tokens.has(token)) {
    refuse(answer, 401, '', 'Invalid credentials in Authorization header');
    return undefined;
  }
  if (repository === undefined || (repository.private && !repository.mayRead(token))) {
    const known = token !== undefined;
    refuse(
      answer,
      known ? 404 : 401,
      'RepoNotFound',
      known ? 'Repository not found' : 'Invalid username or password.',
    );
    return undefined;
  }
  return repository;
}

function whoAmI(hub: HubServer, answer: Answer): void {
  const name = hub.tokens.get(tokenOf(answer) ?? '');
  if (name === undefined) {
    refuse(answer, 401, '', 'Invalid credentials in Authorization header');
    return;
  }
  json(answer, {
    ...{ type: 'user', id: '1', name, fullname: name, orgs: [], isPro: false, canPay: false },
    auth: { type: 'access_token', accessToken: { displayName: 'test', role: 'write' } },
  });
}

function modelInfo(repository: Repository, commit: string): object {
  return {
    _id: '1',
    id: repository.id,
    modelId: repository.id,
    sha: commit,
    private: repository.private,
    gated: repository.gated ? 'manual' : false,
    disabled: false,
    downloads: 0,
    likes: 0,
    tags: [],
    lastModified: '2026-01-01T00:00:00.000Z',
    createdAt: '2026-01-01T00:00:00.000Z',
    siblings: repository.files(commit).map(({ path }) => ({ rfilename: path })),
  };
}

function tree(hub: HubServer, answer: Answer, files: readonly HubFile[]): void {
  const from = Number(answer.request.query.get('cursor') ?? 0);
  const to = from + hub.pageSize;
  const query = new URLSearchParams(answer.request.query);
  query.set('cursor', String(to));
  const next = `<${hub.endpoint}${answer.request.path}?${query.toString()}>; rel="next"`;
  json(answer, files.slice(from, to).map(listed), to < files.length ? { link: next } : {});
}

function listed(file: HubFile): object {
  const { path, oid, size, lfs } = file;
  return {
    ...{ type: 'file', oid, size, path },
    ...(lfs !== undefined && { lfs: { oid: lfs, size, pointerSize: 130 } }),
  };
}

async function answerFile(
  hub: HubServer,
  answer: Answer,
  id: string,
  revision: string,
  path: string,
): Promise<void> {
  const repository = allowed(hub, answer, id);
  if (repository === undefined) return;
  const { request, response } = answer;
  const token = tokenOf(answer);
  if (repository.gated && !repository.mayRead(token)) {
    const message = `Access to model ${id} is restricted.`;
    refuse(answer, token === undefined ? 401 : 403, 'GatedRepo', message);
    return;
  }
  const commit = repository.resolve(revision);
  if (commit === undefined) {
    refuse(answer, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    return;
  }
  response.setHeader('x-repo-commit', commit);
  const file = repository.file(commit, path);
  if (file === undefined) {
    refuse(answer, 404, 'EntryNotFound', 'Entry not found');
    return;
  }
  const etag = `"${etagOf(file)}"`;
  if (file.lfs === undefined) {
    await sendFile(answer, file.content, { etag });
    return;
  }
  request.status = 302;
  const all: Record<string, string | undefined> = {
    location: `${hub.cdn}/${file.lfs}?signature=1`,
    'x-linked-etag': etag,
    'x-linked-size': String(file.size),
    'accept-ranges': 'bytes',
    ...find(answer.faults, 'headers')?.headers,
  };
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) response.setHeader(name, value);
  }
  response.writeHead(302).end();
}
