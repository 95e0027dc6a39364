import { describe, expect, it } from 'vitest';

import { mlxk } from '../helpers/child.js';

describe('the built-in model', () => {
  it('knows the command that lists models', async () => {
    const ended = await mlxk(['run', 'How do I list my models?']);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toContain('mlxk list');
  });
});
