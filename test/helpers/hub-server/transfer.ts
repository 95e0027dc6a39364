/**
 * Sends the bytes of a file: whole or a range, truthfully or with a fault.
 */

import type { ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

import { type Fault, find, type SeenRequest } from './faults.js';

const CHUNK_BYTES = 64 * 1024;

export interface Answer {
  readonly request: SeenRequest;
  readonly response: ServerResponse;
  readonly faults: readonly Fault[];
}

/** Answers with `content`, or the part of it that was asked for, under this strong `etag`. */
export async function sendFile(
  answer: Answer,
  content: Buffer,
  { etag, headers = {} }: { etag: string; headers?: Record<string, string> },
): Promise<void> {
  const { request, response, faults } = answer;
  const range = requestedRange(answer, content.length, etag);
  if (range === 'unsatisfiable') {
    request.status = 416;
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: content.length };
  let body = content.subarray(start, end);
  const flip = find(faults, 'flip');
  if (flip !== undefined && flip.at >= start && flip.at < end) {
    body = Buffer.from(body);
    body[flip.at - start]! ^= 1;
  }
  const shorter = find(faults, 'shorter');
  if (shorter !== undefined) body = body.subarray(0, Math.max(0, body.length - shorter.by));
  const longer = find(faults, 'longer');
  if (longer !== undefined) body = Buffer.concat([body, Buffer.alloc(longer.by, 'x')]);

  const gzip = range === undefined && find(faults, 'gzip') !== undefined;
  if (gzip) body = gzipSync(body);

  request.status = range === undefined ? 200 : 206;
  const all: Record<string, string | undefined> = {
    'content-type': 'application/octet-stream',
    'content-length': String(body.length),
    'accept-ranges': 'bytes',
    etag,
    ...(range && { 'content-range': `bytes ${start}-${end - 1}/${content.length}` }),
    ...headers,
    ...(gzip && { 'content-encoding': 'gzip' }),
    ...find(faults, 'headers')?.headers,
  };
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) response.setHeader(name, value);
  }
  response.writeHead(request.status);
  if (request.method === 'HEAD') response.end();
  else await sendBody(answer, body);
}

function requestedRange(
  { request, faults }: Answer,
  size: number,
  etag: string,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  if (find(faults, 'ignore-range') !== undefined) return undefined;
  const { range, 'if-range': ifRange } = request.headers;
  const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? '');
  if (match === null || (ifRange !== undefined && ifRange !== etag)) return undefined;
  const shift = find(faults, 'other-range')?.by ?? 0;
  const start = Number(match[1]) + shift;
  const end = match[2] === '' ? size : Math.min(size, Number(match[2]) + shift + 1);
  return start >= end ? 'unsatisfiable' : { start, end };
}

async function sendBody({ request, response, faults }: Answer, body: Buffer): Promise<void> {
  const cut = find(faults, 'cut');
  const stall = find(faults, 'stall');
  const slow = find(faults, 'slow');
  const limit = Math.min(cut?.afterBytes ?? body.length, stall?.afterBytes ?? body.length);
  const chunkBytes = slow?.chunkBytes ?? CHUNK_BYTES;
  for (let at = 0; at < limit && !response.destroyed; at += chunkBytes) {
    const chunk = body.subarray(at, Math.min(limit, at + chunkBytes));
    request.sentBytes += chunk.length;
    if (!response.write(chunk)) {
      await drained(response);
    }
    if (slow !== undefined) await wait(slow.pauseMs);
  }
  if (response.destroyed || stall !== undefined) return;
  if (cut !== undefined) {
    response.socket?.destroySoon(); // What was written before still arrives.
    return;
  }
  response.end(() => (request.complete = true));
}

/** Sends an answer of JSON that does not end for a long time. */
export async function flood({ request, response }: Answer, bytes: number): Promise<void> {
  request.status = 200;
  response.writeHead(200, { 'content-type': 'application/json' });
  response.write('[');
  const chunk = Buffer.from(
    `${JSON.stringify({ type: 'file', path: 'x', size: 1 })},`.repeat(2000),
  );
  while (request.sentBytes < bytes && !response.destroyed) {
    request.sentBytes += chunk.length;
    if (!response.write(chunk)) {
      await drained(response);
    }
  }
  response.end('{}]');
}

/** Until the client has taken what was sent, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}
