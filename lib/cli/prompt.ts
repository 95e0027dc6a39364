/**
 * Which model and prompt a command line means: words, standard input, or neither. Loads nothing.
 */

import { BUILTIN, looksLikeModel, resolveModel } from '../cache/names.js';
import { MlxkError } from '../errors.js';
import { HOME_MISSING } from '../home.js';

/** More than the longest contexts hold, at four bytes a token. */
const MAX_STDIN_BYTES = 16 * 2 ** 20;

export interface PromptRequest {
  /** The model as it was typed, `builtin` when none was. */
  readonly model: string;
  /** Absent: a person is to be asked. */
  readonly prompt: string | undefined;
}

/** Standard input, as far as this needs it. */
export interface PromptInput extends AsyncIterable<Uint8Array> {
  readonly isTTY?: boolean;
}

/**
 * The first word is the model when there is one of that name; then the rest is the prompt. A text that cannot be a
 * model's name is a prompt for the built-in model. `-` puts standard input before the other words, and without any
 * prompt standard input is the prompt unless it is a terminal.
 *
 * @throws MlxkError `model_not_found` or `ambiguous_match`; `validation_error` for standard input that is no text.
 */
export async function readPrompt(
  words: readonly string[],
  stdin: PromptInput,
): Promise<PromptRequest> {
  const fromStdin = words.includes('-');
  const { model, rest } = await splitModel(
    words.filter((word) => word !== '-'),
    fromStdin,
  );
  if (fromStdin) {
    return { model, prompt: [await readText(stdin), ...(rest ? [rest] : [])].join('\n\n') };
  }
  if (rest !== undefined) return { model, prompt: rest };
  if (stdin.isTTY === true) return { model, prompt: undefined };
  const piped = await readText(stdin);
  return { model, prompt: piped === '' ? undefined : piped };
}

async function splitModel(
  words: readonly string[],
  fromStdin: boolean,
): Promise<{ model: string; rest: string | undefined }> {
  const [first, ...others] = words;
  if (first === undefined) return { model: BUILTIN, rest: undefined };
  try {
    await resolveModel(first);
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const alone = others.length === 0 && !fromStdin;
    const isPrompt = !looksLikeModel(first) && (alone || /\s/.test(first));
    if (isPrompt) return { model: BUILTIN, rest: words.join(' ') };
    throw error;
  }
  return { model: first, rest: others.length === 0 ? undefined : others.join(' ') };
}

/** Without a home there is no cache that could hold a model of that name. */
function isNotFound(error: unknown): boolean {
  if (!(error instanceof MlxkError)) return false;
  return error.code === 'model_not_found' || error.reason === HOME_MISSING;
}

async function readText(stdin: PromptInput): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    bytes += chunk.length;
    if (bytes > MAX_STDIN_BYTES) {
      throw invalid(`standard input has more than ${MAX_STDIN_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw invalid('standard input is not UTF-8 text');
  }
}

function invalid(message: string): MlxkError {
  return new MlxkError('validation_error', message, { reason: 'stdin_invalid' });
}
