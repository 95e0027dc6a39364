/**
 * Text from files and from the network, made fit for a terminal: what would move the cursor, set the title or hide
 * text is shown as an escape instead. Depends on nothing.
 */

/** C0 but tab and newline, DEL, C1, line separators, and the marks that change the direction of text. */
// eslint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** Text of any number of lines. */
export function visible(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** A name or another text that has to stay on its line. */
export function visibleLine(text: string): string {
  return visible(text).replace(/[\t\n]/g, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
