/**
 * What the hub takes: new repositories and branches, large files, commits.
 */

import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { json, refuse, tokenOf } from './read-routes.js';
import { type HubFile, hubFile, Repository } from './repository.js';
import type { HubServer } from './server.js';
import type { Answer } from './transfer.js';

const LARGE_BYTES = 10 * 2 ** 20;

interface BatchObject {
  readonly oid: string;
  readonly size: number;
}

type CommitLine =
  | { key: 'header'; value: { summary: string } }
  | { key: 'file'; value: { path: string; content: string; encoding: string } }
  | { key: 'lfsFile'; value: { path: string; oid: string; size: number } }
  | { key: 'deletedFile'; value: { path: string } };

/** Answers if it is a request this file knows. */
export async function answerWrite(
  hub: HubServer,
  answer: Answer,
  message: IncomingMessage,
): Promise<boolean> {
  const { request } = answer;
  const body = await bodyOf(message);
  if (request.host === 'cdn') {
    answerUpload(hub, answer, body);
    return true;
  }
  if (request.method !== 'POST') return false;
  const token = tokenOf(answer);
  if (token === undefined || !hub.tokens.has(token)) {
    refuse(answer, 401, '', 'Invalid credentials in Authorization header');
    return true;
  }
  if (request.path === '/api/repos/create') {
    createRepository(hub, answer, JSON.parse(body.toString()), token);
    return true;
  }
  const match =
    /^\/api\/models\/(.+?)\/(preupload|commit|branch)\/(.+)$/.exec(request.path) ??
    /^\/(.+)\.git\/info\/lfs\/objects\/(batch)$/.exec(request.path);
  if (match === null) return false;
  const repository = hub.repositories.get(match[1]!);
  if (repository === undefined) {
    refuse(answer, 404, 'RepoNotFound', 'Repository not found');
    return true;
  }
  const branch = decodeURIComponent(match[3] ?? 'main');
  if (match[2] === 'preupload') preupload(answer, body);
  else if (match[2] === 'batch') batch(hub, answer, body);
  else if (match[2] === 'branch') createBranch(repository, answer, branch);
  else commit(hub, repository, answer, branch, body);
  return true;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function createRepository(hub: HubServer, answer: Answer, body: unknown, token: string): void {
  const { name, organization, visibility } = body as Record<string, string | undefined>;
  const id = `${organization ?? hub.tokens.get(token)!}/${name!}`;
  if (hub.repositories.has(id)) {
    refuse(answer, 409, '', 'You already created this model repo');
    return;
  }
  const repository = new Repository(id, { private: visibility === 'private' });
  repository.readers.add(token);
  repository.commit([hubFile('.gitattributes', '*.safetensors filter=lfs\n')]);
  hub.repositories.set(id, repository);
  json(answer, { url: `${hub.endpoint}/${id}`, name: id, id });
}

function createBranch(repository: Repository, answer: Answer, branch: string): void {
  if (repository.refs.has(branch)) {
    refuse(answer, 409, '', 'Reference already exists');
    return;
  }
  repository.refs.set(branch, repository.refs.get('main')!);
  json(answer, {});
}

function preupload(answer: Answer, body: Buffer): void {
  const { files } = JSON.parse(body.toString()) as { files: { path: string; size: number }[] };
  json(answer, {
    files: files.map(({ path, size }) => ({
      path,
      shouldIgnore: false,
      uploadMode: size > LARGE_BYTES || /\.(safetensors|bin|gguf)$/.test(path) ? 'lfs' : 'regular',
    })),
  });
}

function batch(hub: HubServer, answer: Answer, body: Buffer): void {
  const { objects } = JSON.parse(body.toString()) as { objects: BatchObject[] };
  json(answer, {
    transfer: 'basic',
    objects: objects.map(({ oid, size }) => {
      if (hub.uploads.has(oid) || hub.largeFile(oid) !== undefined) return { oid, size };
      if (size <= hub.partBytes) {
        return { oid, size, actions: { upload: { href: `${hub.cdn}/upload/${oid}` } } };
      }
      const parts = Array.from({ length: Math.ceil(size / hub.partBytes) }, (_, index) => [
        String(index + 1).padStart(5, '0'),
        `${hub.cdn}/upload/${oid}?part=${index + 1}`,
      ]);
      const header = { chunk_size: String(hub.partBytes), ...Object.fromEntries(parts) } as object;
      return { oid, size, actions: { upload: { href: `${hub.cdn}/complete/${oid}`, header } } };
    }),
  });
}

const partsOf = new WeakMap<HubServer, Map<string, Buffer>>();

function answerUpload(hub: HubServer, answer: Answer, body: Buffer): void {
  const { request, response } = answer;
  const parts = partsOf.get(hub) ?? new Map<string, Buffer>();
  partsOf.set(hub, parts);
  const [, kind, oid] = request.path.split('/');
  const part = request.query.get('part');
  request.status = 200;
  if (kind === 'complete') {
    const { parts: named } = JSON.parse(body.toString()) as { parts: { partNumber: number }[] };
    const all = named.map(({ partNumber }) => parts.get(`${oid!} ${partNumber}`)!);
    keep(hub, answer, oid!, Buffer.concat(all));
  } else if (part !== null) {
    parts.set(`${oid!} ${part}`, body);
    response.writeHead(200, { etag: `"part-${part}"` }).end();
  } else {
    keep(hub, answer, oid!, body);
  }
}

function keep(hub: HubServer, answer: Answer, oid: string, content: Buffer): void {
  const sha256 = createHash('sha256').update(content).digest('hex');
  if (sha256 !== oid) {
    refuse(answer, 400, '', 'the content has another hash');
    return;
  }
  hub.uploads.set(oid, content);
  json(answer, {});
}

function commit(
  hub: HubServer,
  repository: Repository,
  answer: Answer,
  branch: string,
  body: Buffer,
): void {
  const head = repository.resolve(branch);
  if (head === undefined) {
    refuse(answer, 404, 'RevisionNotFound', `Invalid rev id: ${branch}`);
    return;
  }
  const lines = body
    .toString()
    .split('\n')
    .map((line) => JSON.parse(line) as CommitLine);
  const files = new Map<string, HubFile>(repository.files(head).map((file) => [file.path, file]));
  for (const { key, value } of lines) {
    if (key === 'file') {
      files.set(
        value.path,
        hubFile(value.path, Buffer.from(value.content, 'base64'), { lfs: false }),
      );
    } else if (key === 'lfsFile') {
      const content = hub.uploads.get(value.oid) ?? hub.largeFile(value.oid)?.file.content;
      if (content === undefined) {
        refuse(answer, 400, '', `${value.path} was not uploaded`);
        return;
      }
      files.set(value.path, hubFile(value.path, content, { lfs: true }));
    } else if (key === 'deletedFile') {
      files.delete(value.path);
    }
  }
  const before = repository.files(head);
  const changed =
    files.size !== before.length || before.some((file) => files.get(file.path)?.oid !== file.oid);
  const oid = changed ? repository.commit([...files.values()], branch) : head;
  json(answer, {
    success: true,
    commitOid: oid,
    commitUrl: `${hub.endpoint}/${repository.id}/commit/${oid}`,
    hookOutput: '',
  });
}
