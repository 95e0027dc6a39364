/**
 * File patterns as the Hugging Face tools read them: `*` crosses slashes, and a folder stands for all it holds. Pure.
 */

const cache = new Map<string, RegExp>();

/** Whether any of the patterns fits the whole path. */
export function matchesAny(path: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    let expression = cache.get(pattern);
    if (expression === undefined) {
      expression = compile(pattern.endsWith('/') ? `${pattern}*` : pattern);
      cache.set(pattern, expression);
    }
    return expression.test(path);
  });
}

/** `*`, `?`, `[abc]`, `[a-z]` and `[!abc]`, as in Python's fnmatch. */
function compile(pattern: string): RegExp {
  let source = '';
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at);
    if (character === '*') {
      if (!source.endsWith('.*')) source += '.*';
    } else if (character === '?') {
      source += '.';
    } else if (character === '[') {
      const end = pattern.indexOf(']', at + 2);
      if (end < 0) {
        source += '\\[';
        continue;
      }
      const body = pattern.slice(at + 1, end).replace(/[\\\]^[]/g, '\\$&');
      source += body.startsWith('!') ? `[^${body.slice(1)}]` : `[${body}]`;
      at = end;
    } else {
      source += character.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
    }
  }
  return new RegExp(`^${source}$`, 's');
}
