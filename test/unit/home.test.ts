import os from 'node:os';
import path from 'node:path';

import { afterEach, describe, expect, it, vi } from 'vitest';

import { hubCacheFolder } from '../../lib/cache/layout.js';
import { expandHome } from '../../lib/home.js';
import { hubSettings } from '../../lib/hub/settings.js';

afterEach(() => vi.restoreAllMocks());

describe('the home folder', () => {
  it('stands for ~', () => {
    expect(expandHome('~')).toBe(path.join(os.homedir()));
    expect(expandHome('~/x y')).toBe(path.join(os.homedir(), 'x y'));
    expect(expandHome('~other/x')).toBe('~other/x');
  });

  it('may be missing: then it is named together with what stands in for it', async () => {
    // As for a user of no name in a container, without HOME.
    vi.spyOn(os, 'homedir').mockImplementation(() => {
      throw new Error('uv_os_homedir returned ENOENT');
    });
    expect(() => hubCacheFolder({})).toThrow(
      expect.objectContaining({
        code: 'validation_error',
        detail: expect.objectContaining({ reason: 'home_missing' }) as object,
        message: expect.stringContaining('HF_HOME') as string,
      }),
    );
    expect(hubCacheFolder({ HF_HOME: '/hf' })).toBe(path.join('/hf', 'hub'));
    expect((await hubSettings({}, {})).token).toBeUndefined();
  });
});
