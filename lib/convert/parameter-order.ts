/**
 * The order in which mlx-lm lists the parameters of a model: that of its Python classes. It decides which tensors share
 * a file, and where they lie in it, so files agree byte for byte. For an architecture that is not recorded it is
 * llama's, and what llama does not have comes last; such files are as good.
 */

import { CLASSES, LISTS } from './recorded-classes.js';

const OF_A_MATRIX = ['weight', 'scales', 'biases', 'bias'];

/** Compares two parameter names as mlx-lm would list them. @param modelClass file of mlx-lm */
export function parameterOrder(modelClass: string): (a: string, b: string) => number {
  const recorded = CLASSES[modelClass] ?? CLASSES['llama'] ?? {};
  const ranks = new Map(
    Object.entries(recorded).map(([parent, list]) => [parent, ranksOf(LISTS[list] ?? [])]),
  );
  const usual = ranksOf(OF_A_MATRIX);
  return (a, b) => {
    const first = a.split('.');
    const second = b.split('.');
    const at = first.findIndex((part, index) => part !== second[index]);
    const [left, right] = [first[at], second[at]];
    if (left === undefined || right === undefined) return first.length - second.length;
    if (isNumber(left) && isNumber(right)) return Number(left) - Number(right);
    const parent = first[at - 1] ?? '';
    const rank = ranks.get(isNumber(parent) ? '*' : parent) ?? usual;
    const difference = (rank.get(left) ?? Infinity) - (rank.get(right) ?? Infinity);
    return difference !== 0 && !Number.isNaN(difference) ? difference : left < right ? -1 : 1;
  };
}

function isNumber(part: string): boolean {
  return /^\d+$/.test(part);
}

/** Places in a list; scales and biases stand behind their weight, where a plain model has none. */
function ranksOf(names: readonly string[]): Map<string, number> {
  const whole = names.flatMap((name) => (name === 'weight' ? OF_A_MATRIX.slice(0, 3) : [name]));
  return new Map([...new Set([...whole, ...OF_A_MATRIX])].map((name, rank) => [name, rank]));
}
