import { describe, expect, it } from 'vitest';

import { mlxk } from '../helpers/child.js';

describe('the built-in model', () => {
  it('knows the command that lists models', async () => {
    const ended = await mlxk(['run', 'How do I list my models?']);
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toContain('mlxk list');
  });

  describe('for a user without a home folder', () => {
    const HOMELESS = {
      ...{ HOME: '', XDG_CACHE_HOME: '', MLXK_WORKSPACE_HOME: '' },
      ...{ HF_HOME: '', HF_HUB_CACHE: '', HUGGINGFACE_HUB_CACHE: '' },
    };

    it('answers too', async () => {
      const ended = await mlxk(['run', 'How do I list my models?'], { env: HOMELESS });
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(ended.stdout).toContain('mlxk list');
    });

    it.each([
      [['run', 'org/model', 'Hi'], 'execution_error'],
      [['run', 'org/model'], 'execution_error'],
      [['run', 'model', 'Hi'], 'execution_error'],
      [['list'], 'validation_error'],
    ])('answers nothing that was meant for another model: %j', async (args, type) => {
      const ended = await mlxk([...args, '--json'], { env: HOMELESS });
      expect(ended.code).not.toBe(0);
      const { error } = JSON.parse(ended.stdout) as { error: { detail: object } };
      expect(error).toMatchObject({ type, detail: { reason: 'home_missing' } });
      expect(error).toMatchObject({ message: expect.stringContaining('HF_HOME') as string });
    });
  });
});
