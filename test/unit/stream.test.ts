import { describe, expect, it } from 'vitest';

import { PieceQueue, TOKEN_WINDOW } from '../../lib/stream.js';

interface Item {
  readonly tokens: readonly number[];
}

function piece(count: number): Item {
  return { tokens: Array.from({ length: count }, (_, index) => index) };
}

/** A queue whose credit is counted the way the engine counts it. */
function connected(): { queue: PieceQueue<Item>; granted: () => number } {
  const queue = new PieceQueue<Item>();
  let granted = TOKEN_WINDOW;
  queue.connect((tokens) => {
    granted += tokens;
  });
  return { queue, granted: () => granted };
}

function arrive(queue: PieceQueue<Item>, tokens: number): void {
  queue.receive(tokens);
  queue.push(piece(tokens));
  queue.settleCredit();
}

describe('the queue of pieces', () => {
  it('gives pieces in order, then ends', async () => {
    const { queue } = connected();
    arrive(queue, 1);
    arrive(queue, 2);
    queue.close();
    expect((await queue.next()).value?.tokens).toHaveLength(1);
    expect((await queue.next()).value?.tokens).toHaveLength(2);
    expect(await queue.next()).toEqual({ value: undefined, done: true });
    expect(await queue.next()).toEqual({ value: undefined, done: true });
  });

  it('gives nothing more to a reader that left', async () => {
    const { queue } = connected();
    arrive(queue, 1);
    queue.discard();
    arrive(queue, 1);
    expect(await queue.next()).toEqual({ value: undefined, done: true });
  });

  it('wakes a reader that came first', async () => {
    const { queue } = connected();
    const first = queue.next();
    const second = queue.next();
    arrive(queue, 3);
    queue.close();
    expect((await first).value?.tokens).toHaveLength(3);
    expect((await second).done).toBe(true);
  });

  it('fails once, drops what is queued, then is over', async () => {
    const { queue } = connected();
    arrive(queue, 1);
    queue.fail(new Error('broken'));
    await expect(queue.next()).rejects.toThrow('broken');
    expect((await queue.next()).done).toBe(true);
  });

  it('fails a reader that waits', async () => {
    const { queue } = connected();
    const waiting = queue.next();
    queue.fail(new Error('broken'));
    await expect(waiting).rejects.toThrow('broken');
  });

  it('gives no credit for pieces nobody takes', () => {
    const { queue, granted } = connected();
    for (let i = 0; i < TOKEN_WINDOW; i++) arrive(queue, 1);
    expect(granted()).toBe(TOKEN_WINDOW);
  });

  it('gives credit for each piece that is taken', async () => {
    const { queue, granted } = connected();
    for (let i = 0; i < TOKEN_WINDOW / 2; i++) arrive(queue, 2);
    await queue.next();
    await queue.next();
    expect(granted()).toBe(TOKEN_WINDOW + 4);
  });

  it('gives credit at once for tokens that made no piece yet', () => {
    const { queue, granted } = connected();
    queue.receive(10);
    queue.settleCredit();
    expect(granted()).toBe(TOKEN_WINDOW + 10);
  });

  it('gives credit at once for pieces a waiting reader takes', async () => {
    const { queue, granted } = connected();
    const waiting = queue.next();
    arrive(queue, 5);
    await waiting;
    expect(granted()).toBe(TOKEN_WINDOW + 5);
  });

  it('lets the engine run freely when nobody reads piece by piece', () => {
    const { queue, granted } = connected();
    queue.openWindow();
    expect(granted()).toBeGreaterThan(1e9);
    expect(granted()).toBeLessThan(2 ** 31);
    arrive(queue, 100);
    expect(granted()).toBeLessThan(2 ** 31);
  });

  it('remembers that the window was opened before the engine came', () => {
    const queue = new PieceQueue<Item>();
    queue.openWindow();
    let granted = 0;
    queue.connect((tokens) => {
      granted += tokens;
    });
    expect(granted).toBeGreaterThan(1e9);
  });
});
