/**
 * Servers that hardly speak HTTP, or speak it to wear a client out. Each answer is written to the socket as it is.
 */

import { createHash } from 'node:crypto';
import net from 'node:net';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { pull } from '../../lib/cache/pull.js';
import { MlxkError } from '../../lib/errors.js';
import { everythingIn, noise } from '../helpers/remote-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

const COMMIT = 'b'.repeat(40);
const CONFIG = noise(9000, 'config');
const GIT_HASH = createHash('sha1').update(`blob ${CONFIG.length}\0`).update(CONFIG).digest('hex');

/** Writes an answer to a request for this path. */
type Answer = (socket: net.Socket, asked: string) => void;

const http = (head: string, body: string | Buffer = ''): Buffer =>
  Buffer.concat([Buffer.from(`${head.replaceAll('\n', '\r\n')}\r\n\r\n`), Buffer.from(body)]);
const json = (value: unknown): string => JSON.stringify(value);
const sized = (body: string | Buffer, more = ''): Buffer =>
  http(
    `HTTP/1.1 200 OK\nContent-Length: ${Buffer.byteLength(body)}\nConnection: close${more}`,
    body,
  );

const INFO = json({ _id: '1', id: 'org/model', sha: COMMIT, private: false, gated: false });
const TREE = json([{ type: 'file', path: 'config.json', oid: GIT_HASH, size: CONFIG.length }]);

/** What the hub would have in answer to each question. */
function bodyOf(asked: string): string | Buffer {
  if (asked.includes('/revision/')) return INFO;
  return asked.includes('/tree/') ? TREE : CONFIG;
}
const honest: Answer = (socket, asked) => socket.end(sized(bodyOf(asked)));

let cache: string;
let server: net.Server;
let stopped: boolean;

beforeEach(() => {
  cache = path.join(temporaryFolder(), 'hub');
  stopped = false;
});
afterEach(() => {
  stopped = true;
  server.close();
  removeTemporaryFolders();
});

/** Starts a server that answers questions of one kind so, and all others honestly. */
async function serving(question: RegExp, answer: Answer): Promise<string> {
  server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (data) => {
      const [method, asked = ''] = data.toString('latin1').split(' ');
      if (method === 'HEAD') socket.end(http('HTTP/1.1 200 OK\nConnection: close'));
      else if (question.test(asked)) answer(socket, asked);
      else honest(socket, asked);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

async function pulled(question: RegExp, answer: Answer): Promise<unknown> {
  const endpoint = await serving(question, answer);
  const retry = { attempts: 2, delayMs: 1 };
  const options = { cacheFolder: cache, endpoint, token: null, retry, stallMs: 300 };
  return await pull('org/model', options).catch((error: unknown) => error);
}

/** Writes without end, a byte at a time. */
const trickle =
  (start: Buffer): Answer =>
  (socket) => {
    socket.write(start);
    const send = (): void => {
      if (stopped || socket.destroyed) return;
      socket.write(' ');
      setTimeout(send, 30);
    };
    send();
  };

const CHUNKED = 'HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nConnection: close';
const ALL = /./;
const QUESTIONS = /\/api\//;
const FILE = /\/resolve\//;

describe('all arrives from a server', () => {
  it.each<[string, Answer]>([
    [
      'of HTTP/1.0, whose end is that of the connection',
      (socket, asked) => socket.end(http('HTTP/1.0 200 OK', bodyOf(asked))),
    ],
    [
      'that sends chunks and no length',
      (socket, asked) => {
        const body = Buffer.from(bodyOf(asked));
        socket.write(http(CHUNKED));
        for (let at = 0; at < body.length; at += 1000) {
          const part = body.subarray(at, at + 1000);
          socket.write(
            Buffer.concat([
              Buffer.from(`${part.length.toString(16)}\r\n`),
              part,
              Buffer.from('\r\n'),
            ]),
          );
        }
        socket.end('0\r\n\r\n');
      },
    ],
    [
      'that compresses all it has',
      (socket, asked) => socket.end(sized(gzipSync(bodyOf(asked)), '\nContent-Encoding: gzip')),
    ],
    [
      'that has renamed the repository',
      (socket, asked) => {
        if (!asked.startsWith('/api/models/org/model/')) return honest(socket, asked);
        const location = asked.replace('org/model', 'org/renamed');
        return socket.end(
          http(
            `HTTP/1.1 307 Temporary Redirect\nLocation: ${location}\nContent-Length: 0\nConnection: close`,
          ),
        );
      },
    ],
  ])('%s', async (_, answer) => {
    expect(await pulled(ALL, answer)).toMatchObject({
      commit: COMMIT,
      fetchedBytes: CONFIG.length,
    });
  });
});

describe('a typed error ends', () => {
  const bomb = gzipSync(Buffer.alloc(200 * 2 ** 20, ' '));
  const each: [string, Answer][] = [
    ['silence', () => undefined],
    ['a body that trickles', trickle(http(`HTTP/1.1 200 OK\nContent-Length: ${CONFIG.length}`))],
    ['chunks that trickle', trickle(http(CHUNKED, '2000\r\n'))],
    ['headers that trickle', trickle(Buffer.from('HTTP/1.1 200 OK\r\nX-Slow: '))],
    [
      'headers without end',
      (socket) => socket.end(`HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(200_000)}\r\n\r\n`),
    ],
    ['another protocol', (socket) => socket.end('220 mail.example ESMTP\r\n')],
    ['a connection that is reset', (socket) => socket.resetAndDestroy()],
    ['a connection that is closed', (socket) => socket.end()],
    ['chunks of no length', (socket) => socket.end(http(CHUNKED, 'zz\r\nabc\r\n'))],
    [
      'two lengths',
      (socket) => socket.end(http('HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2', 'ab')),
    ],
    [
      'a compressed body that is no such',
      (socket) => socket.end(sized('no gzip', '\nContent-Encoding: gzip')),
    ],
    [
      'a body that swells to 200 MB',
      (socket) => socket.end(sized(bomb, '\nContent-Encoding: gzip')),
    ],
    [
      'a status that there is not',
      (socket) => socket.end(http('HTTP/1.1 999 What\nContent-Length: 0\nConnection: close')),
    ],
    [
      'early hints and nothing else',
      (socket) => socket.end(http('HTTP/1.1 103 Early Hints\nLink: </x>')),
    ],
    [
      'a redirect into nothing',
      (socket) =>
        socket.end(http('HTTP/1.1 302 Found\nLocation:\nContent-Length: 0\nConnection: close')),
    ],
    [
      'a page to sign in',
      (socket) => socket.end(sized('<html>Sign in</html>', '\nContent-Type: text/html')),
    ],
    ['null', (socket) => socket.end(sized('null'))],
    ['a list of null', (socket) => socket.end(sized('[null]'))],
    ['a number', (socket) => socket.end(sized('5'))],
    ['nothing', (socket) => socket.end(sized(''))],
    ['JSON nested without end', (socket) => socket.end(sized('['.repeat(100_000)))],
    [
      'HTTP/1.0 that breaks off',
      (socket, asked) => socket.end(http('HTTP/1.0 200 OK', bodyOf(asked).slice(0, 20))),
    ],
  ];

  it.each(each)('a file of %s, and what arrived is no model', async (_, answer) => {
    const error = await pulled(FILE, answer);
    expect(error).toBeInstanceOf(MlxkError);
    expect(error).toMatchObject({ code: 'download_failed' });
    expect(everythingIn(cache).filter((name) => name.endsWith('config.json'))).toEqual([]);
  });

  it.each(each)('an answer of %s, and nothing is written', async (_, answer) => {
    const error = await pulled(QUESTIONS, answer);
    expect(error).toBeInstanceOf(MlxkError);
    expect(['download_failed', 'validation_error']).toContain((error as MlxkError).code);
    expect(everythingIn(cache)).toEqual([]);
  });
});
