/**
 * Text inside a command that somebody may paste into a shell. Pure.
 */

/** The text as one word of a POSIX shell. */
export function shellQuoted(text: string): string {
  return /^[\w./@:+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
