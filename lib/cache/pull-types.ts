/**
 * What a download takes, tells while it runs, and gives.
 */

import type { RetryPolicy } from '../hub/retry.js';
import type { CacheEnvironment } from './layout.js';

export interface PullOptions {
  /** Cache to write to. Default: the one of the Hugging Face tools (`HF_HUB_CACHE`, `HF_HOME`). */
  readonly cacheFolder?: string | undefined;
  /** Branch, tag or commit. Default: what stands behind `@` in the name, else `main`. */
  readonly revision?: string | undefined;
  /** Only files that one of these patterns fits (`*` crosses slashes). Default: all. */
  readonly include?: readonly string[] | undefined;
  /** Not the files that one of these patterns fits. */
  readonly exclude?: readonly string[] | undefined;
  /** Compare what is here with its hash, and fetch anew what is wrong. Reads all of it. */
  readonly verify?: boolean | undefined;
  readonly onProgress?: ((event: PullEvent) => void) | undefined;
  /** Ends the download; what was fetched stays and is not fetched again. */
  readonly signal?: AbortSignal | undefined;
  /** Default: `HF_TOKEN`, else the one `hf auth login` stored. `null` sends none. */
  readonly token?: string | null | undefined;
  /** Default: `HF_ENDPOINT`, else huggingface.co. */
  readonly endpoint?: string | undefined;
  /** In place of `process.env`. */
  readonly env?: CacheEnvironment | undefined;
  /** Requests at once. Default: 8. */
  readonly connections?: number | undefined;
  /** Size of the ranges that files are fetched in. Default: a 64th of the file, from 256 KiB to 16 MiB. */
  readonly pieceBytes?: number | undefined;
  /** Default: 5 attempts without progress, with pauses from half a second up. */
  readonly retry?: RetryPolicy | undefined;
  /** Longest silence of the server before it counts as a failure. Default: 30 s. */
  readonly stallMs?: number | undefined;
}

export type PullEvent =
  /** What will be done. `presentBytes` are on the disk already. */
  | {
      type: 'plan';
      model: string;
      commit: string;
      files: number;
      totalBytes: number;
      presentBytes: number;
    }
  /** Bytes of the whole that are on the disk, and of one file. */
  | {
      type: 'progress';
      file: string;
      fileBytes: number;
      fileTotalBytes: number;
      bytes: number;
      totalBytes: number;
    }
  /** A file is whole, checked, and in its place. */
  | { type: 'file'; file: string; bytes: number; fetchedBytes: number }
  /** A file that is here is read and compared with its hash. */
  | { type: 'verifying'; file: string; bytes: number }
  /** Another process fetches the same file; this one waits for it. */
  | { type: 'waiting'; file: string }
  | { type: 'retry'; file: string; message: string; delayMs: number }
  /** The hub could not be asked beforehand; tried all the same. */
  | { type: 'warning'; message: string };

export interface PullResult {
  /** Hub id. */
  readonly model: string;
  /** 40 hexadecimal digits. */
  readonly commit: string;
  /** The snapshot's folder. */
  readonly folder: string;
  readonly files: number;
  readonly totalBytes: number;
  /** Bytes that came over the network; 0 when everything was there. */
  readonly fetchedBytes: number;
  /** Why the hub could not be asked beforehand. */
  readonly warning?: string;
}
