/**
 * The hub: whether it answers, and whether it knows the token. The token goes to the hub's own host only, and into no
 * message.
 */

import { isObject } from '../cache/model-folder.js';
import { MlxkError } from '../errors.js';
import { HubClient } from '../hub/client.js';
import { type HubSettings, hubSettings } from '../hub/settings.js';
import { shellQuoted } from '../shell-quote.js';
import { type Environment, type Finding, ok, problem, skipped, warning } from './finding.js';

/** A hub that says nothing for so long does not answer. */
const STALL_MS = 10_000;
const ONCE = { attempts: 1, delayMs: 0 } as const;
const LOG_IN = 'hf auth login';
/** Why a question has no answer of a hub. */
const NO_HUB = new Set(['hub_unreachable', 'answer_invalid']);

export async function checkHub(env: Environment): Promise<Finding[]> {
  let settings: HubSettings;
  try {
    settings = await hubSettings({}, env);
  } catch (error) {
    if (!(error instanceof MlxkError)) throw error;
    const isToken = error.reason === 'token_malformed';
    return [
      problem(isToken ? 'token' : 'hub', error.message, isToken ? LOG_IN : 'unset HF_ENDPOINT'),
    ];
  }
  if (settings.offline) {
    return [skipped('hub', 'HF_HUB_OFFLINE is set: nothing is asked'), skipped('token', 'offline')];
  }
  const reached = await ask(settings, '/api/models?limit=1', 'its list of models');
  const isError = reached instanceof MlxkError;
  if (isError ? NO_HUB.has(reached.reason) : !Array.isArray(reached)) {
    const why = isError ? causeOf(reached) : 'what it calls its list of models is none';
    return [
      warning(
        'hub',
        `${settings.endpoint} does not answer as a hub: ${why}`,
        `curl -I ${shellQuoted(settings.endpoint)}`,
      ),
      skipped('token', 'the hub cannot be asked'),
    ];
  }
  return [ok('hub', `${settings.endpoint} answers`), await checkToken(settings)];
}

async function checkToken(settings: HubSettings): Promise<Finding> {
  if (settings.token === undefined) {
    return ok('token', 'none; gated and private models cannot be downloaded');
  }
  const answer = await ask(settings, '/api/whoami-v2', 'the owner of the token');
  if (answer instanceof MlxkError) {
    return answer.reason === 'token_refused'
      ? problem('token', 'the hub does not know the token, or it has expired', LOG_IN)
      : warning('token', `cannot be checked: ${causeOf(answer)}`, null);
  }
  const name = isObject(answer) ? answer['name'] : undefined;
  return ok('token', typeof name === 'string' ? `valid, of ${name}` : 'valid');
}

/** The hub's answer, or why there is none. */
async function ask(settings: HubSettings, path: string, what: string): Promise<unknown> {
  const client = new HubClient(settings, {
    signal: new AbortController().signal,
    retry: ONCE,
    stallMs: STALL_MS,
  });
  try {
    const response = await client.fetchFor(what)(`${settings.endpoint}${path}`);
    return await response.json();
  } catch (error) {
    if (error instanceof MlxkError) return error;
    // A page to sign in, for example.
    return new MlxkError('download_failed', (error as Error).message, {
      reason: 'answer_invalid',
      cause: error,
    });
  }
}

/** What happened, without the advice to ask the doctor. */
function causeOf({ cause, message }: MlxkError): string {
  return cause instanceof Error ? cause.message : message;
}
