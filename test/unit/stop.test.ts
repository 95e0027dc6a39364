import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { endOfTurnIds, StopFilter, stopIds } from '../../lib/stop.js';

const noTokens = (): undefined => undefined;

describe('stop ids', () => {
  it('come from each of the three files, one or a list', () => {
    expect(stopIds({ generationConfig: { eos_token_id: [7, 3] } }, noTokens)).toEqual([3, 7]);
    expect(stopIds({ config: { eos_token_id: 5 } }, noTokens)).toEqual([5]);
    expect(stopIds({ config: { text_config: { eos_token_id: [9] } } }, noTokens)).toEqual([9]);
    const toId = (token: string): number | undefined => ({ '</s>': 2 })[token];
    expect(stopIds({ tokenizerConfig: { eos_token: '</s>' } }, toId)).toEqual([2]);
    expect(stopIds({ tokenizerConfig: { eos_token: { content: '</s>' } } }, toId)).toEqual([2]);
  });

  it('are the union of what the files say', () => {
    const sources = {
      generationConfig: { eos_token_id: [1, 106] },
      config: { eos_token_id: 1 },
      tokenizerConfig: { eos_token: '<eos>' },
    };
    expect(stopIds(sources, () => 4)).toEqual([1, 4, 106]);
  });

  it('are none when no file names one, or names nonsense', () => {
    expect(stopIds({}, noTokens)).toEqual([]);
    expect(
      stopIds({ config: { eos_token_id: null }, tokenizerConfig: { eos_token: 5 } }, noTokens),
    ).toEqual([]);
    expect(stopIds({ config: { eos_token_id: ['x', -1, 1.5] } }, noTokens)).toEqual([]);
  });
});

describe('ends of a turn', () => {
  it('are known by their spelling', () => {
    const vocabulary: Record<string, number> = { '<|im_end|>': 8, '<|end|>': 9 };
    expect(endOfTurnIds((token) => vocabulary[token])).toEqual([8, 9]);
  });

  it('leave out the end of a part where turns have channels', () => {
    const vocabulary: Record<string, number> = { '<|channel|>': 7, '<|end|>': 9 };
    expect(endOfTurnIds((token) => vocabulary[token])).toEqual([]);
  });
});

function filtered(
  stops: readonly string[],
  pieces: readonly string[],
): { out: string[]; stopped: boolean } {
  const filter = new StopFilter(stops);
  const out = pieces.map((piece) => filter.push(piece));
  out.push(filter.finish());
  return { out, stopped: filter.stopped };
}

describe('stop strings', () => {
  it('are cut off with everything after them', () => {
    expect(filtered(['END'], ['abc END def'])).toEqual({ out: ['abc ', ''], stopped: true });
  });

  it('never show a part that spans pieces', () => {
    expect(filtered(['END'], ['abE', 'N', 'D!']).out).toEqual(['ab', '', '', '']);
  });

  it('give back what turned out to be something else', () => {
    expect(filtered(['END'], ['abE', 'N', 'Z']).out).toEqual(['ab', '', 'ENZ', '']);
  });

  it('give back what is held at the end of the stream', () => {
    expect(filtered(['END'], ['abEN'])).toEqual({ out: ['ab', 'EN'], stopped: false });
  });

  it('are cut at the earliest of several', () => {
    expect(filtered(['world', 'lo'], ['hello world']).out).toEqual(['hel', '']);
  });

  it('of which one is the end of another are cut at the longer one', () => {
    expect(filtered(['lo', 'hello'], ['say hello']).out).toEqual(['say ', '']);
  });

  it('that repeat their own beginning are found', () => {
    expect(filtered(['aab'], ['a', 'a', 'a', 'b']).out.join('')).toBe('a');
  });

  it('are not there by default: all text passes at once', () => {
    expect(filtered([], ['abc', 'def']).out).toEqual(['abc', 'def', '']);
  });

  it('cut the same text however it is cut into pieces', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🙂'), maxLength: 40 });
    const stop = fc.string({
      unit: fc.constantFrom('a', 'b', 'c', '🙂'),
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(
        letters,
        fc.array(stop, { maxLength: 4 }),
        fc.array(fc.nat(40)),
        (text, stops, cuts) => {
          const expected = cutByDefinition(text, stops);
          expect(filtered(stops, piecesOf(text, cuts)).out.join('')).toBe(expected);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('never let text out that is the beginning of the one that follows', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 30 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(letters, fc.array(stop, { minLength: 1, maxLength: 3 }), (text, stops) => {
        const filter = new StopFilter(stops);
        let shown = '';
        for (const character of text) {
          shown += filter.push(character);
          expect(cutByDefinition(text, stops).startsWith(shown)).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

/** The rule itself: read letter by letter, stop where a stop string is complete, cut before the longest such. */
function cutByDefinition(text: string, stops: readonly string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (complete.length > 0)
      return text.slice(0, end - Math.max(...complete.map(({ length }) => length)));
  }
  return text;
}

function piecesOf(text: string, cuts: readonly number[]): string[] {
  const places = [...new Set(cuts.filter((cut) => cut < text.length))].sort((a, b) => a - b);
  return [...places, text.length].map((end, index) =>
    text.slice(index === 0 ? 0 : places[index - 1], end),
  );
}
