import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { HubClient } from '../../lib/hub/client.js';
import { HubServer } from '../helpers/hub-server/index.js';

const hub = new HubServer();
beforeAll(() => hub.start());
afterAll(() => hub.stop());
afterEach(() => hub.reset());

function client(token?: string): HubClient {
  return new HubClient(
    { endpoint: hub.endpoint, token, offline: false },
    { signal: new AbortController().signal, retry: { attempts: 1, delayMs: 1 } },
  );
}

const authorizations = (): (string | undefined)[] =>
  hub.requests.map(({ headers }) => headers.authorization);

/** Asks, whatever the answer. */
async function ask(url: string, authorization?: string): Promise<void> {
  const headers = authorization === undefined ? {} : { authorization };
  await client('hf_mine')
    .fetchFor('x')(url, { headers })
    .catch(() => undefined);
}

describe('the authorization of a request', () => {
  it('to the hub is our token, whatever the caller set', async () => {
    await ask(`${hub.endpoint}/api/whoami-v2`, 'Bearer hf_');
    expect(authorizations()).toEqual(['Bearer hf_mine']);
  });

  it('to a storage is what the hub gave for it, and never our token', async () => {
    await ask(`${hub.cdn}/x`);
    await ask(`${hub.cdn}/x`, 'Bearer of-the-storage');
    await ask(`${hub.cdn}/x`, 'Bearer hf_mine');
    expect(authorizations()).toEqual([undefined, 'Bearer of-the-storage', undefined]);
  });

  it('does not follow to another host', async () => {
    hub.faults.add(({ host }) => host === 'cdn', { kind: 'redirect', to: `${hub.endpoint}/x` });
    await ask(`${hub.cdn}/x`, 'Bearer of-the-storage');
    expect(authorizations()).toEqual(['Bearer of-the-storage', 'Bearer hf_mine']);
    hub.reset();
    hub.faults.add(({ host }) => host === 'hub', { kind: 'redirect', to: `${hub.cdn}/x` });
    await ask(`${hub.endpoint}/x`);
    expect(authorizations()).toEqual(['Bearer hf_mine', undefined]);
  });
});

describe('what is sent', () => {
  it('is not sent on to another host', async () => {
    hub.faults.add(({ host }) => host === 'hub', {
      kind: 'redirect',
      to: `${hub.cdn}/x`,
      status: 307,
    });
    const sent = client().fetchFor('x')(`${hub.endpoint}/x`, { method: 'POST', body: 'secret' });
    await expect(sent).rejects.toMatchObject({ reason: 'redirect_refused' });
    expect(hub.requests.map(({ host }) => host)).toEqual(['hub']);
  });
});
