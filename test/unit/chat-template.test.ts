import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { readTemplates } from '../../lib/chat-template.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

let folder: string;

beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(removeTemporaryFolders);

function put(name: string, content: string): void {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), content);
}

async function templates(
  tokenizerConfig?: Record<string, unknown>,
): Promise<Record<string, string>> {
  return Object.fromEntries(await readTemplates(folder, tokenizerConfig));
}

describe('the chat template of a folder', () => {
  it('is none where no file has one', async () => {
    expect(await templates()).toEqual({});
    expect(await templates({ chat_template: null })).toEqual({});
  });

  it('is that of chat_template.jinja before chat_template.json before tokenizer_config.json', async () => {
    const config = { chat_template: 'config' };
    expect(await templates(config)).toEqual({ default: 'config' });
    put('chat_template.json', '{"chat_template": "json"}');
    expect(await templates(config)).toEqual({ default: 'json' });
    put('chat_template.jinja', 'jinja');
    expect(await templates(config)).toEqual({ default: 'jinja' });
  });

  it('may be several with names', async () => {
    const config = {
      chat_template: [
        { name: 'default', template: 'd' },
        { name: 'tool_use', template: 't' },
        { name: 5 },
        null,
      ],
    };
    expect(await templates(config)).toEqual({ default: 'd', tool_use: 't' });
  });

  it('may have others beside it in a folder', async () => {
    put('chat_template.jinja', 'd');
    put('additional_chat_templates/tool_use.jinja', 't');
    put('additional_chat_templates/notes.txt', 'no');
    expect(await templates()).toEqual({ default: 'd', tool_use: 't' });
  });

  it('is refused with its file when it is not JSON or not UTF-8', async () => {
    put('chat_template.json', 'none');
    await expect(templates()).rejects.toThrow(/chat_template\.json is not JSON/);
    writeFileSync(path.join(folder, 'chat_template.jinja'), Buffer.from([0xff, 0xfe]));
    await expect(templates()).rejects.toThrow(/chat_template\.jinja is not UTF-8/);
  });
});
