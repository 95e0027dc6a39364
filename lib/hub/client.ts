/**
 * Every request to a hub goes through here: the token reaches the hub's own origin only, redirects lead to decent
 * places, no answer is waited for without end, and none of JSON is larger than it can be.
 */

import { MlxkError } from '../errors.js';
import { packageVersion } from '../package-info.js';
import { failureOf, PassingFailure } from './errors.js';
import { LinkedAbort } from './linked-abort.js';
import { DEFAULT_RETRY, type RetryPolicy, withRetries } from './retry.js';
import type { HubSettings } from './settings.js';

const MAX_REDIRECTS = 5;
/** A page of a listing has a thousand files and some hundred bytes for each. */
const MAX_JSON_BYTES = 16 * 2 ** 20;
/** A server that sends slower is taken for one that holds us up: the slowest of modems had twenty times as much. */
const MIN_DOWNLOAD_BYTES_PER_MS = 0.1;
/** What is sent has no answer until all of it has arrived, on the slowest of lines. */
const MIN_UPLOAD_BYTES_PER_MS = 64;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

export interface ClientOptions {
  readonly signal: AbortSignal;
  readonly retry?: RetryPolicy;
  /** Longest silence of a server, before and in an answer. */
  readonly stallMs?: number;
}

const DEFAULT_STALL_MS = 30_000;

export interface Opened {
  readonly response: Response;
  /** Where it came from after all redirects. */
  readonly url: URL;
  /** The body; ends with a `PassingFailure` when the connection does or falls silent. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Gives the connection back without reading on. */
  close(): void;
}

export class HubClient {
  readonly settings: HubSettings;
  readonly retry: RetryPolicy;
  readonly signal: AbortSignal;
  readonly #origin: string;
  readonly #stallMs: number;

  constructor(settings: HubSettings, options: ClientOptions) {
    this.settings = settings;
    this.retry = options.retry ?? DEFAULT_RETRY;
    this.signal = options.signal;
    this.#origin = new URL(settings.endpoint).origin;
    this.#stallMs = options.stallMs ?? DEFAULT_STALL_MS;
  }

  /**
   * A `fetch` for the hub's own library, for requests about `what`: fails with typed errors in place of bad statuses,
   * and tries again what can be repeated.
   */
  fetchFor(what: string, retry: RetryPolicy = this.retry): typeof fetch {
    return async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input.toString());
      const repeatable =
        /^(GET|HEAD|PUT)$/.test(init?.method ?? 'GET') && !(init?.body instanceof ReadableStream);
      return await withRetries(
        async () => {
          const opened = await this.open(url, init);
          if (!opened.response.ok) {
            opened.close();
            throw failureOf(opened.response, what);
          }
          const { status, headers } = opened.response;
          const bytes = await collect(opened.body, MAX_JSON_BYTES, what);
          return new Response(status === 204 ? null : bytes, { status, headers });
        },
        repeatable ? retry : { ...retry, attempts: 1 },
        this.signal,
      );
    };
  }

  /** One request and its redirects. The caller reads the body or closes it. */
  async open(
    start: URL,
    init: RequestInit = {},
    onRedirect?: (response: Response, from: URL) => void,
  ): Promise<Opened> {
    let url = start;
    const seen = new Set<string>();
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      this.#checkPlace(url);
      const opened = await this.#send(url, init, url.origin !== start.origin);
      const location = opened.response.headers.get('location');
      if (!REDIRECTS.has(opened.response.status) || location === null) return opened;
      opened.close();
      onRedirect?.(opened.response, url);
      if (!URL.canParse(location, url.href)) throw badRedirect(location, 'is no URL');
      seen.add(url.href);
      url = new URL(location, url);
      if (seen.has(url.href)) throw badRedirect(url.href, 'leads back to itself');
      if (init.body != null && url.origin !== start.origin) {
        throw badRedirect(url.href, 'would take what is sent to another host');
      }
    }
    throw badRedirect(url.href, `is the ${MAX_REDIRECTS + 1}th in a row`);
  }

  /** Plain http and local names are for hubs that are such themselves, for example in a test or behind a tunnel. */
  #checkPlace(url: URL): void {
    const problem = problemOfPlace(url, new URL(this.#origin));
    if (problem !== undefined) throw badRedirect(url.href, problem);
  }

  #isOurs(authorization: string | null): boolean {
    const { token } = this.settings;
    return token !== undefined && authorization?.includes(token) === true;
  }

  async #send(url: URL, init: RequestInit, strange: boolean): Promise<Opened> {
    const headers = new Headers(init.headers);
    headers.set('user-agent', `mlxk/${packageVersion()}; node/${process.versions.node}`);
    if (url.origin === this.#origin) {
      headers.delete('authorization');
      if (this.settings.token !== undefined) {
        headers.set('authorization', `Bearer ${this.settings.token}`);
      }
    } else if (strange || this.#isOurs(headers.get('authorization'))) {
      headers.delete('authorization'); // A storage's own, given by the hub for it, is kept.
    }
    if (strange) headers.delete('if-range'); // Other hosts name their contents in other ways.
    const stop = new LinkedAbort(this.signal, init.signal);
    const patienceMs = this.#stallMs + bytesOf(init.body) / MIN_UPLOAD_BYTES_PER_MS;
    const { signal } = stop;
    const timer = setTimeout(() => {
      const seconds = patienceMs / 1000;
      stop.abort(
        new PassingFailure(`${url.host} said nothing, or next to nothing, for ${seconds} s`),
      );
    }, patienceMs);
    const close = (): void => {
      clearTimeout(timer);
      stop.abort();
    };
    const failed = (error: unknown): unknown => {
      if (signal.aborted) return signal.reason;
      close();
      return new PassingFailure(`the connection to ${url.host} failed: ${causeOf(error)}`, {
        cause: error,
      });
    };
    let response: Response;
    try {
      const answer = fetch(url.href, { ...init, headers, signal, redirect: 'manual' });
      response = await Promise.race([answer, abortOf(signal)]);
    } catch (error) {
      clearTimeout(timer);
      throw failed(error);
    }
    timer.refresh();
    const enoughBytes = this.#stallMs * MIN_DOWNLOAD_BYTES_PER_MS;
    const body = read({ response, signal, timer, enoughBytes, failed, close });
    return { response, url, body, close };
  }
}

/**
 * Rejects when the signal aborts. Node's `fetch` knows a signal, and the answer that it belongs to, by weak references
 * alone: once one of them is collected, an abort reaches neither the answer nor its body.
 */
function abortOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

interface Reading {
  readonly response: Response;
  readonly signal: AbortSignal;
  readonly timer: NodeJS.Timeout;
  /** As many bytes have to come before the timer starts anew. */
  readonly enoughBytes: number;
  readonly failed: (error: unknown) => unknown;
  readonly close: () => void;
}

async function* read({
  response,
  signal,
  timer,
  enoughBytes,
  failed,
  close,
}: Reading): AsyncGenerator<Uint8Array> {
  if (response.body === null) {
    close();
    return;
  }
  const reader = response.body.getReader();
  // Ends a read that waits; the loop sees why.
  const cancel = (): void => {
    reader.cancel().catch(() => undefined);
  };
  signal.addEventListener('abort', cancel, { once: true });
  let sinceRefresh = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      const chunk = await reader.read();
      signal.throwIfAborted();
      if (chunk.done) return;
      const bytes = chunk.value as Uint8Array;
      sinceRefresh += bytes.length;
      if (sinceRefresh >= enoughBytes) {
        timer.refresh();
        sinceRefresh = 0;
      }
      yield bytes;
    }
  } catch (error) {
    throw failed(error);
  } finally {
    close();
  }
}

function bytesOf(body: RequestInit['body']): number {
  if (body instanceof Blob) return body.size;
  return typeof body === 'string' || ArrayBuffer.isView(body) || body instanceof ArrayBuffer
    ? Buffer.byteLength(body)
    : 0;
}

async function collect(
  body: AsyncIterable<Uint8Array>,
  limit: number,
  what: string,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > limit) {
      throw new MlxkError(
        'validation_error',
        `the hub's answer about ${what} is longer than ${limit} bytes: it is not read on`,
        { reason: 'answer_too_long', detail: { limit_bytes: limit } },
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Why a request must not go there, for a hub at `hub`. Exported for its test. */
export function problemOfPlace(url: URL, hub: URL): string | undefined {
  if (url.origin === hub.origin) return undefined;
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return `is no web address`;
  if (url.protocol === 'http:' && hub.protocol === 'https:') return 'is not encrypted';
  if (isLocal(url.hostname) && !isLocal(hub.hostname)) return 'is an address of a local network';
  if (url.username !== '' || url.password !== '') return 'carries credentials';
  return undefined;
}

/** Address literals, and names that only this machine or its network knows. */
function isLocal(host: string): boolean {
  const name = host.replace(/\.$/, '').toLowerCase();
  return (
    name.startsWith('[') ||
    /^[\d.]+$/.test(name) ||
    !name.includes('.') ||
    /\.(localhost|local|internal|lan|home|intranet)$/.test(name)
  );
}

function badRedirect(url: string, problem: string): MlxkError {
  const shown = (url.split('?', 1)[0] ?? '').slice(0, 200); // What follows may be a signature.
  return new MlxkError('download_failed', `the hub redirects to ${shown}, which ${problem}`, {
    reason: 'redirect_refused',
    detail: { url: shown },
  });
}

function causeOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error
    ? cause.message || (cause as NodeJS.ErrnoException).code || message
    : message;
}
