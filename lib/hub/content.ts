/**
 * Bytes of one file of a commit, from any place to any other. Each answer is compared with what the listing promised.
 */

import { MlxkError } from '../errors.js';
import type { HubClient, Opened } from './client.js';
import { failureOf, PassingFailure } from './errors.js';
import { shown } from './names.js';
import type { RemoteFile, RemoteModel } from './listing.js';

/** The server sends whole files only: what lies behind the start of this one has to come in one go. */
export class RangesIgnored extends Error {
  override readonly name = 'RangesIgnored';
}

export class RemoteContent {
  readonly file: RemoteFile;
  readonly #client: HubClient;
  readonly #model: RemoteModel;
  readonly #url: URL;
  /** Where the hub sent us last time; signed, and good for a while. */
  #direct: URL | undefined;

  constructor(client: HubClient, model: RemoteModel, file: RemoteFile) {
    this.file = file;
    this.#client = client;
    this.#model = model;
    const path = file.path.split('/').map(encodeURIComponent).join('/');
    this.#url = new URL(`${client.settings.endpoint}/${model.id}/resolve/${model.commit}/${path}`);
  }

  /** Asks whether the file would be given. Reads nothing of it. */
  async probe(): Promise<void> {
    const headers = { 'accept-encoding': 'identity' };
    const opened = await this.#client.open(this.#url, { method: 'HEAD', headers }, this.#checkHub);
    opened.close();
    // Signed addresses are good for one method: that another host refuses HEAD says nothing.
    if (!opened.response.ok && opened.url.origin === this.#url.origin) {
      throw failureOf(opened.response, this.#what);
    }
  }

  /**
   * The bytes from `start` to before `end`.
   *
   * @throws PassingFailure, or RangesIgnored when `start` is not 0 or `end` not the end and all bytes came.
   */
  async open(start: number, end: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const whole = start === 0 && end === this.file.bytes;
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (!whole) {
      headers.range = `bytes=${start}-${end - 1}`;
      headers['if-range'] = `"${this.file.blob}"`;
    }
    const opened = await this.#openDirect(headers, signal);
    try {
      this.#check(opened, start, end, whole);
    } catch (error) {
      opened.close();
      throw error;
    }
    return opened.body;
  }

  async #openDirect(headers: Record<string, string>, signal: AbortSignal): Promise<Opened> {
    if (this.#direct !== undefined) {
      const strangers = new Headers(headers);
      strangers.delete('if-range'); // It names its contents in its own way.
      const opened = await this.#client.open(this.#direct, { headers: strangers, signal });
      if (opened.response.ok) return opened;
      // Signed addresses run out; the hub gives a new one.
      opened.close();
      this.#direct = undefined;
    }
    const opened = await this.#client.open(this.#url, { headers, signal }, this.#checkHub);
    if (opened.response.ok && opened.url.origin !== this.#url.origin) this.#direct = opened.url;
    return opened;
  }

  #check({ response, url }: Opened, start: number, end: number, whole: boolean): void {
    const { status, headers } = response;
    const { bytes } = this.file;
    if (status === 200) {
      if (url.origin === this.#url.origin) this.#checkHub(response);
      if (!whole) throw new RangesIgnored();
      // A compressed answer has another length; what comes out of it is counted later.
      const length = headers.get('content-length');
      if (length !== null && !headers.has('content-encoding') && Number(length) !== bytes) {
        throw this.#contradiction('size', `${length} bytes, not ${bytes}`);
      }
      return;
    }
    if (status === 206) {
      const range = headers.get('content-range');
      if (range !== `bytes ${start}-${end - 1}/${bytes}`) {
        throw this.#contradiction(
          'range',
          `the range ${shown(String(range))}, not ${start}-${end - 1}/${bytes}`,
        );
      }
      return;
    }
    if (status === 416) throw this.#contradiction('range', `no bytes ${start}-${end - 1}`);
    if (url.origin !== this.#url.origin) {
      // Only the hub decides who may have what; elsewhere an address ran out, or a storage is in trouble.
      throw new PassingFailure(`${url.host} answered ${status} for ${this.#what}`);
    }
    throw failureOf(response, this.#what);
  }

  /** What the hub itself says of the file while it redirects or answers. */
  readonly #checkHub = (response: Response, from: URL = this.#url): void => {
    if (from.origin !== this.#url.origin) return;
    const { headers } = response;
    const commit = headers.get('x-repo-commit');
    if (commit !== null && commit !== this.#model.commit) {
      throw this.#contradiction('commit', `commit ${shown(commit)}, not ${this.#model.commit}`);
    }
    const size = headers.get('x-linked-size');
    if (size !== null && Number(size) !== this.file.bytes) {
      throw this.#contradiction('size', `${shown(size)} bytes, not ${this.file.bytes}`);
    }
    const etag = headers.get('x-linked-etag');
    if (etag !== null && etag.replace(/^W\//, '').replaceAll('"', '') !== this.file.blob) {
      throw this.#contradiction('etag', `the tag ${shown(etag)}, not ${this.file.blob}`);
    }
  };

  get #what(): string {
    return `${this.#model.id}/${this.file.path}`;
  }

  /** Passing, since caches on the way may be behind; not for ever, since attempts are counted. */
  #contradiction(about: string, what: string): PassingFailure {
    return new PassingFailure(
      `the hub contradicts its listing of ${this.#what} (${about}): it sends ${what}`,
    );
  }
}

/** A file that did not come as it was promised. */
export function damaged(file: RemoteFile, how: string, reason: string): MlxkError {
  return new MlxkError('download_failed', `${file.path} arrived damaged: ${how}`, {
    reason,
    detail: { file: file.path },
  });
}
