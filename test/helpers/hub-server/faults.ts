/**
 * What the hub server can do wrong, on purpose: each fault meets the requests it is meant for, as often as it is told.
 */

import type { IncomingHttpHeaders } from 'node:http';

/** One request as it came in, and what was answered. */
export interface SeenRequest {
  /** Which of the two hosts was asked. */
  readonly host: 'hub' | 'cdn';
  readonly method: string;
  /** Path without query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** The file of a repository that it asks for, if it does. */
  file?: string | undefined;
  status?: number;
  /** Bytes of the body handed to the socket. */
  sentBytes: number;
  /** The client took the whole answer, as far as the server can tell. */
  complete: boolean;
}

export type Fault =
  /** Answers with this status and nothing of what was asked for. */
  | { kind: 'status'; status: number; headers?: Record<string, string>; body?: string }
  /** Closes the connection after so many bytes of the body. */
  | { kind: 'cut'; afterBytes: number }
  /** Sends so many bytes of the body, then nothing more. */
  | { kind: 'stall'; afterBytes: number }
  /** Flips a bit of the body's byte at this place. */
  | { kind: 'flip'; at: number }
  /** Sends these bytes after the body. */
  | { kind: 'longer'; by: number }
  /** Leaves this many bytes out at the end, and says so in the length. */
  | { kind: 'shorter'; by: number }
  /** Answers a request for a range with the whole. */
  | { kind: 'ignore-range' }
  /** Sends another range than was asked for, under its true name. */
  | { kind: 'other-range'; by: number }
  /** Compresses the whole, as a network in between may do. */
  | { kind: 'gzip' }
  /** Changes headers of the answer; `undefined` leaves one out. */
  | { kind: 'headers'; headers: Record<string, string | undefined> }
  /** Redirects there. */
  | { kind: 'redirect'; to: string; status?: number }
  /** Sends JSON without end, up to so many bytes. */
  | { kind: 'flood'; bytes: number }
  /** Sends the body in pieces of this size, one a turn of the loop. */
  | { kind: 'slow'; chunkBytes: number; pauseMs: number }
  /** Does this before the answer. */
  | { kind: 'call'; call: () => void | Promise<void> };

interface Rule {
  readonly matches: (request: SeenRequest) => boolean;
  readonly fault: Fault;
  left: number;
}

export class Faults {
  #rules: Rule[] = [];

  /** Lets a fault happen to the next `times` requests that match. */
  add(matches: (request: SeenRequest) => boolean, fault: Fault, times = Infinity): void {
    this.#rules.push({ matches, fault, left: times });
  }

  clear(): void {
    this.#rules = [];
  }

  /** The faults for this request, counted as happened. */
  take(request: SeenRequest): Fault[] {
    const hits = this.#rules.filter((rule) => rule.left > 0 && rule.matches(request));
    for (const rule of hits) rule.left -= 1;
    return hits.map((rule) => rule.fault);
  }
}

export function find<K extends Fault['kind']>(
  faults: readonly Fault[],
  kind: K,
): Extract<Fault, { kind: K }> | undefined {
  return faults.find((fault): fault is Extract<Fault, { kind: K }> => fault.kind === kind);
}
