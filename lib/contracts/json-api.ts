/**
 * The frame of the JSON contract: the envelope around every answer and the error inside it. Follows
 * schemas/json-api.json.
 */

import { MlxkError } from '../errors.js';
import { visible } from '../visible.js';

/** Version of the JSON contract that this program's envelopes follow. */
export const JSON_API_VERSION = '0.2.3';

/** The `error` member of an envelope. */
export interface ContractError {
  readonly type: string;
  readonly message: string;
  readonly [extra: string]: unknown;
}

export interface Envelope {
  readonly status: 'success' | 'error';
  readonly command: string | null;
  readonly data: Readonly<Record<string, unknown>> | null;
  readonly error: ContractError | null;
}

/**
 * An envelope as it is printed: members in the contract's order, a newline at the end. What could do something to a
 * terminal stands as an escape, which means the same in JSON.
 */
export function printed({ status, command, data, error }: Envelope): string {
  return `${visible(JSON.stringify({ status, command, data, error }, null, 2))}\n`;
}

/** How errors are called where the contract has another name for them than the error table. */
export type TypeNames = Readonly<Partial<Record<string, string>>>;

/** Facts that stand beside the message, not inside `detail`: clients switch on them there. */
const TOP_LEVEL_FACTS = ['matches', 'available_hashes'] as const;

/**
 * Anything thrown, as the contract writes it.
 *
 * @param fallback type of what is no `MlxkError`
 * @param names the contract's spelling of types of the error table, where it differs
 */
export function contractError(
  cause: unknown,
  fallback: string,
  names: TypeNames = {},
): ContractError {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!(cause instanceof MlxkError)) return { type: names[fallback] ?? fallback, message };
  const detail: Record<string, unknown> = { ...cause.detail };
  const facts: Record<string, unknown> = {};
  for (const fact of TOP_LEVEL_FACTS) {
    if (detail[fact] === undefined) continue;
    facts[fact] = detail[fact];
    Reflect.deleteProperty(detail, fact);
  }
  return {
    type: names[cause.code] ?? cause.code,
    message,
    ...facts,
    detail,
    ...(cause.retryable && { retryable: true }),
  };
}
