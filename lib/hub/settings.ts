/**
 * Which hub, as whom, and whether at all: the variables that the Hugging Face tools share. Makes no request.
 */

import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { MlxkError } from '../errors.js';
import { expandHome } from '../home.js';

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const TOKEN_VARIABLES = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HUGGINGFACE_HUB_TOKEN'];
const OFFLINE_VARIABLES = ['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'];
/** Hub tokens have 37 characters, organisations' signed ones some hundreds. */
const MAX_TOKEN_LENGTH = 8192;

export type HubEnvironment = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Origin, and path if any, without a slash at the end. */
  readonly endpoint: string;
  /** Where the token came from is not kept, so that no message can tell. */
  readonly token: string | undefined;
  readonly offline: boolean;
}

/** What a caller decides; the environment decides the rest. */
export interface HubOptions {
  /** Default: `HF_ENDPOINT`, else huggingface.co. */
  readonly endpoint?: string | undefined;
  /** Default: `HF_TOKEN`, else the file that `hf auth login` writes. `null` sends none. */
  readonly token?: string | null | undefined;
}

/**
 * @throws MlxkError `validation_error` when the endpoint is no http(s) URL or the token could not stand in a header.
 */
export async function hubSettings(
  options: HubOptions = {},
  env: HubEnvironment = process.env,
): Promise<HubSettings> {
  const token = options.token === undefined ? await implicitToken(env) : (options.token ?? '');
  return {
    endpoint: checkedEndpoint(options.endpoint ?? (env.HF_ENDPOINT || DEFAULT_ENDPOINT)),
    token: checkedToken(token),
    offline: OFFLINE_VARIABLES.some((name) => isOn(env[name])),
  };
}

function checkedEndpoint(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '') {
    throw new MlxkError(
      'validation_error',
      `The hub's endpoint must be an http or https URL without credentials; got ${JSON.stringify(endpoint)}`,
      { reason: 'endpoint_invalid', detail: { endpoint } },
    );
  }
  return (url.origin + url.pathname).replace(/\/+$/, '');
}

/** What is wrong is told, the token never. */
function checkedToken(text: string): string | undefined {
  const token = text.trim();
  if (token === '') return undefined;
  if (!/^[\x21-\x7e]+$/.test(token) || token.length > MAX_TOKEN_LENGTH) {
    throw new MlxkError(
      'validation_error',
      'The Hugging Face token has characters that no token has: set HF_TOKEN anew, or log in again',
      { reason: 'token_malformed' },
    );
  }
  return token;
}

async function implicitToken(env: HubEnvironment): Promise<string> {
  if (isOn(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return '';
  for (const name of TOKEN_VARIABLES) {
    const value = env[name]?.trim();
    if (value) return value;
  }
  try {
    return await readFile(tokenFile(env), 'utf8');
  } catch {
    return ''; // Not logged in, or nobody who could be.
  }
}

function tokenFile(env: HubEnvironment): string {
  if (env.HF_TOKEN_PATH) return expandHome(env.HF_TOKEN_PATH);
  const cache = expandHome(env.XDG_CACHE_HOME || '~/.cache');
  const home = env.HF_HOME ? expandHome(env.HF_HOME) : path.join(cache, 'huggingface');
  return path.join(home, 'token');
}

function isOn(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '');
}
