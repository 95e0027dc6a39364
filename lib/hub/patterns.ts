/**
 * File patterns as the Hugging Face tools read them: `*` crosses slashes, and a folder stands for all it holds. In time
 * proportional to pattern and path: no regular expression is made of them. Pure.
 */

/** One character of a path, or any number of them. */
type Part = 'star' | ((character: string) => boolean);

const cache = new Map<string, readonly Part[]>();

/** Whether any of the patterns fits the whole path. */
export function matchesAny(path: string, patterns: readonly string[]): boolean {
  const characters = Array.from(path);
  return patterns.some((pattern) => {
    let parts = cache.get(pattern);
    if (parts === undefined) {
      parts = compile(pattern.endsWith('/') ? `${pattern}*` : pattern);
      cache.set(pattern, parts);
    }
    return fits(characters, parts);
  });
}

/** Only the last star that was met is ever tried again: an earlier one could not do better. */
function fits(characters: readonly string[], parts: readonly Part[]): boolean {
  let at = 0;
  let inParts = 0;
  let star = -1;
  let afterStar = 0;
  while (at < characters.length) {
    const part = parts[inParts];
    if (part === 'star') {
      star = inParts++;
      afterStar = at;
    } else if (part?.(characters[at] ?? '') === true) {
      inParts++;
      at++;
    } else if (star >= 0) {
      inParts = star + 1;
      at = ++afterStar;
    } else {
      return false;
    }
  }
  while (parts[inParts] === 'star') inParts++;
  return inParts === parts.length;
}

/** `*`, `?`, `[abc]`, `[a-z]` and `[!abc]`, as in Python's fnmatch. */
function compile(pattern: string): Part[] {
  const characters = Array.from(pattern);
  const parts: Part[] = [];
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] ?? '';
    // A bracket that stands first, or first after "!", is one of the set.
    const from = at + (characters[at + 1] === '!' ? 3 : 2);
    const end = character === '[' ? characters.indexOf(']', from) : -1;
    if (character === '*') parts.push('star');
    else if (character === '?') parts.push(() => true);
    else if (end > 0) {
      parts.push(oneOf(characters.slice(at + 1, end)));
      at = end;
    } else parts.push((other) => other === character);
  }
  return parts;
}

function oneOf(body: readonly string[]): (character: string) => boolean {
  const negated = body[0] === '!';
  const set = negated ? body.slice(1) : body;
  const ranges: [string, string][] = [];
  for (let at = 0; at < set.length; at++) {
    const first = set[at] ?? '';
    const isRange = set[at + 1] === '-' && at + 2 < set.length;
    ranges.push([first, isRange ? (set[at + 2] ?? '') : first]);
    if (isRange) at += 2;
  }
  return (character) => {
    const code = character.codePointAt(0) ?? 0;
    const isIn = ranges.some(
      ([low, high]) => code >= (low.codePointAt(0) ?? 0) && code <= (high.codePointAt(0) ?? 0),
    );
    return isIn !== negated;
  };
}
