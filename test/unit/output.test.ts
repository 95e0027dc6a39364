import { describe, expect, it } from 'vitest';

import { forTerminal } from '../../lib/cli/output.js';

describe('model text on a terminal', () => {
  it('keeps letters, newlines and tabs', () => {
    expect(forTerminal('a\tb\nc é 🙂')).toBe('a\tb\nc é 🙂');
  });

  it('loses every other control character', () => {
    const controls = [...Array(32).keys(), 127, ...Array.from({ length: 32 }, (_, i) => 128 + i)]
      .filter((code) => code !== 9 && code !== 10)
      .map((code) => String.fromCharCode(code));
    expect(forTerminal(controls.join('x'))).toBe('x'.repeat(controls.length - 1));
  });

  it('cannot set the title', () => {
    expect(forTerminal('\u001b]0;owned\u0007')).toBe(']0;owned');
  });
});
