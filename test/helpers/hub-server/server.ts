/**
 * The Hugging Face hub on this machine, for tests: the real protocol on two hosts of its own, the hub and the one it
 * redirects large files to. Good enough for the Python client; misbehaves as a test tells it.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

import { Faults, type Fault, find, type SeenRequest } from './faults.js';
import { type HubFile, Repository } from './repository.js';
import { answerRead } from './read-routes.js';
import { flood, sendFile } from './transfer.js';
import { answerWrite } from './write-routes.js';

export class HubServer {
  readonly repositories = new Map<string, Repository>();
  /** Tokens the hub knows, to the names of their users. */
  readonly tokens = new Map<string, string>();
  readonly faults = new Faults();
  readonly requests: SeenRequest[] = [];
  /** Large files that were uploaded, by SHA-256. */
  readonly uploads = new Map<string, Buffer>();
  /** Files in one page of a listing. */
  pageSize = 1000;
  /** Larger uploads are asked for in parts of this size. */
  partBytes = 1 << 20;

  readonly #sockets = new Set<Socket>();
  readonly #hub = this.#server('hub');
  readonly #cdn = this.#server('cdn');

  /** Listens; `endpoint` and `cdn` are known from then on. */
  async start(): Promise<this> {
    for (const server of [this.#hub, this.#cdn]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    }
    return this;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of [this.#hub, this.#cdn]) {
      await new Promise<void>((resolve) => server.close(() => resolve()));
    }
  }

  /** For `HF_ENDPOINT`. */
  get endpoint(): string {
    return originOf(this.#hub);
  }

  /** The other host: it never may see a token. */
  get cdn(): string {
    return originOf(this.#cdn);
  }

  add(
    id: string,
    files: readonly HubFile[],
    options: { private?: boolean; gated?: boolean } = {},
  ): Repository {
    const repository = new Repository(id, options);
    repository.commit(files);
    this.repositories.set(id, repository);
    return repository;
  }

  /** Forgets what was asked and every fault. */
  reset(): void {
    this.requests.length = 0;
    this.faults.clear();
  }

  /** Bytes of file contents that were sent, of all files or of one. */
  fileBytesSent(file?: string): number {
    return this.requests
      .filter((request) => request.file !== undefined && (file ?? request.file) === request.file)
      .reduce((sum, request) => sum + request.sentBytes, 0);
  }

  /** The file kept outside Git under this name, of any repository. */
  largeFile(sha256: string): { file: HubFile; repository: Repository } | undefined {
    for (const repository of this.repositories.values()) {
      for (const tree of repository.commits.values()) {
        for (const file of tree.values()) {
          if (file.lfs === sha256) return { file, repository };
        }
      }
    }
    return undefined;
  }

  #server(host: 'hub' | 'cdn'): Server {
    const server = createServer((message, response) => {
      void this.#answer(host, message, response).catch((error: unknown) => {
        response.destroy();
        throw error;
      });
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined); // Clients are killed in the middle.
    });
    return server;
  }

  async #answer(
    host: 'hub' | 'cdn',
    message: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const url = new URL(message.url ?? '/', 'http://host');
    const request: SeenRequest = {
      host,
      method: message.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      headers: message.headers,
      sentBytes: 0,
      complete: false,
    };
    this.requests.push(request);
    message.on('error', () => undefined);
    request.file = this.#fileOf(request);
    const faults = this.faults.take(request);
    for (const fault of faults) {
      if (fault.kind === 'call') await fault.call();
    }
    if (await disturb(request, response, faults)) return;
    const answer = { request, response, faults };
    if (host === 'cdn') {
      await this.#answerCdn(answer, message);
    } else if (!(await answerRead(this, answer)) && !(await answerWrite(this, answer, message))) {
      request.status = 404;
      response.writeHead(404, { 'x-error-code': 'RepoNotFound' }).end();
    }
  }

  async #answerCdn(
    answer: { request: SeenRequest; response: ServerResponse; faults: readonly Fault[] },
    message: IncomingMessage,
  ): Promise<void> {
    if (answer.request.method === 'PUT' || answer.request.method === 'POST') {
      await answerWrite(this, answer, message);
      return;
    }
    const found = this.largeFile(answer.request.path.slice(1));
    if (found === undefined) {
      answer.request.status = 403;
      answer.response.writeHead(403).end('expired');
      return;
    }
    // Storage names its objects in its own way: not by the SHA-256.
    await sendFile(answer, found.file.content, { etag: `"storage-${found.file.oid}"` });
  }

  #fileOf({ host, path }: SeenRequest): string | undefined {
    if (host === 'cdn') return this.largeFile(path.slice(1))?.file.path;
    const match = /\/resolve\/[^/]+\/(.+)$/.exec(path);
    return match === null ? undefined : decodeURIComponent(match[1]!);
  }
}

async function disturb(
  request: SeenRequest,
  response: ServerResponse,
  faults: readonly Fault[],
): Promise<boolean> {
  const status = find(faults, 'status');
  if (status !== undefined) {
    request.status = status.status;
    response.writeHead(status.status, status.headers).end(status.body ?? '');
    return true;
  }
  const redirect = find(faults, 'redirect');
  if (redirect !== undefined) {
    request.status = redirect.status ?? 302;
    response.writeHead(request.status, { location: redirect.to }).end();
    return true;
  }
  const endless = find(faults, 'flood');
  if (endless !== undefined) {
    await flood({ request, response, faults }, endless.bytes);
    return true;
  }
  const silent = find(faults, 'stall');
  return silent !== undefined && request.file === undefined; // Of what is no file, nothing is sent.
}

function originOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
