import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';

import { contentHash, isClean, pinContentHash } from '../../lib/workspace/content-hash.js';
import { workspaceFacts } from '../../lib/workspace/facts.js';
import { Sentinel, SENTINEL_NAME } from '../../lib/workspace/sentinel.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';

afterAll(removeTemporaryFolders);

const HEADER = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';

function safetensors(header: string, data = Buffer.alloc(4)): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, Buffer.from(header), data]);
}

/** The files that mlx-knife 2.0.8 hashed to `KNIFE_HASH`. */
function workspace(): string {
  const folder = temporaryFolder();
  mkdirSync(path.join(folder, 'sub'));
  mkdirSync(path.join(folder, '.git'));
  const files: Record<string, string | Buffer> = {
    'config.json': '{"model_type":"llama"}\n',
    'model.safetensors': safetensors(HEADER),
    'sub/\u00e9.txt': 'accent',
    'Z.txt': 'z',
    '\u{1f600}.txt': 'smile',
    '\uff5a.txt': 'wide',
    '.DS_Store': 'x',
    '.git/HEAD': 'x',
  };
  for (const [name, content] of Object.entries(files))
    writeFileSync(path.join(folder, name), content);
  symlinkSync('sub/\u00e9.txt', path.join(folder, 'link'));
  return folder;
}

const KNIFE_HASH = 'sha256:b77f292d5d74d99679295a2182bbd58afb58c1ab25bf332ef770ee9b0878f67c';

async function pinned(): Promise<string> {
  const folder = workspace();
  await Sentinel.create({ operation: 'clone', source_repo: 'org/m', source_revision: null }).write(
    folder,
  );
  expect(await pinContentHash(folder)).toBe(KNIFE_HASH);
  return folder;
}

const at = (...parts: string[]): string => path.join(...parts);

describe('content hash v2', () => {
  it('is the hash that mlx-knife gives the same files', async () => {
    expect((await contentHash(workspace()))?.hash).toBe(KNIFE_HASH);
  });

  it.each<[string, (folder: string) => void]>([
    [
      'tensor bytes change',
      (f) => writeFileSync(at(f, 'model.safetensors'), safetensors(HEADER, Buffer.alloc(4, 1))),
    ],
    [
      'a tool leaves its files',
      (f) => {
        writeFileSync(at(f, '.x.swp'), '');
        writeFileSync(at(f, 'a.lock'), '');
      },
    ],
  ])('stays when %s', async (_, change) => {
    const folder = workspace();
    change(folder);
    expect((await contentHash(folder))?.hash).toBe(KNIFE_HASH);
  });

  it.each<[string, (folder: string) => void]>([
    [
      'the header of a safetensors file',
      (f) => writeFileSync(at(f, 'model.safetensors'), safetensors(`${HEADER} `)),
    ],
    ['the tokenizer', (f) => writeFileSync(at(f, 'tokenizer.json'), '{}')],
    ['the chat template', (f) => writeFileSync(at(f, 'chat_template.jinja'), 'x')],
    ['the index', (f) => writeFileSync(at(f, 'model.safetensors.index.json'), '{}')],
    ['a name', (f) => renameSync(at(f, 'Z.txt'), at(f, 'Y.txt'))],
    [
      'where a link leads',
      (f) => {
        rmSync(at(f, 'link'));
        symlinkSync('Z.txt', at(f, 'link'));
      },
    ],
  ])('changes with %s', async (_, change) => {
    const folder = workspace();
    change(folder);
    const content = await contentHash(folder);
    expect(content?.hash).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(content?.hash).not.toBe(KNIFE_HASH);
  });

  it.each<[string, (folder: string) => void]>([
    ['config.json', (f) => rmSync(at(f, 'config.json'))],
    [
      'a link that stays inside',
      (f) => {
        rmSync(at(f, 'link'));
        symlinkSync('../../etc', at(f, 'link'));
      },
    ],
    [
      'a link that leads somewhere',
      (f) => {
        rmSync(at(f, 'link'));
        symlinkSync('nowhere', at(f, 'link'));
      },
    ],
    ['a header length', (f) => writeFileSync(at(f, 'model.safetensors'), Buffer.alloc(8))],
    [
      'a whole header',
      (f) => writeFileSync(at(f, 'model.safetensors'), safetensors(HEADER).subarray(0, 20)),
    ],
    [
      'a sane header length',
      (f) => writeFileSync(at(f, 'model.safetensors'), Buffer.alloc(64, 255)),
    ],
  ])('does not exist without %s', async (_, change) => {
    const folder = workspace();
    change(folder);
    expect(await contentHash(folder)).toBeUndefined();
  });

  it('tells different sets of files apart', async () => {
    const name = fc.stringMatching(/^[a-z\u00e0-\u00ff]{1,8}\.txt$/);
    const files = fc.dictionary(name, fc.string({ maxLength: 8 }), { maxKeys: 4 });
    const write = (content: Record<string, string>): string => {
      const folder = temporaryFolder();
      writeFileSync(at(folder, 'config.json'), '{}');
      for (const [file, text] of Object.entries(content)) writeFileSync(at(folder, file), text);
      return folder;
    };
    await fc.assert(
      fc.asyncProperty(files, files, async (a, b) => {
        const [first, second] = await Promise.all([contentHash(write(a)), contentHash(write(b))]);
        const same =
          JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
        expect(first?.hash === second?.hash).toBe(same);
      }),
      { numRuns: 60 },
    );
  });
});

describe('the check whether a workspace is clean', () => {
  it('is true right after pinning, and the file times have all their digits', async () => {
    const folder = await pinned();
    expect(await isClean(folder)).toBe(true);
    const { mtimeNs } = statSync(at(folder, 'Z.txt'), { bigint: true });
    expect(readFileSync(at(folder, SENTINEL_NAME), 'utf8')).toContain(`"mtime_ns": ${mtimeNs}`);
  });

  it.each<[string, (folder: string) => void]>([
    ['edited', (f) => appendFileSync(at(f, 'Z.txt'), '!')],
    ['added', (f) => writeFileSync(at(f, 'new.txt'), '')],
    ['removed', (f) => rmSync(at(f, 'Z.txt'))],
    ['renamed', (f) => renameSync(at(f, 'Z.txt'), at(f, 'Y.txt'))],
    ['replaced by one of the same size', (f) => writeFileSync(at(f, 'Z.txt'), 'y')],
  ])('is false once a file was %s, until the hash is pinned again', async (_, change) => {
    const folder = await pinned();
    change(folder);
    expect(await isClean(folder)).toBe(false);
    expect(await pinContentHash(folder)).not.toBe(KNIFE_HASH);
    expect(await isClean(folder)).toBe(true);
  });

  it('stays true for a touched file, whose time it mends, and for what does not count', async () => {
    const folder = await pinned();
    const time = new Date(Date.now() - 60_000);
    utimesSync(at(folder, 'Z.txt'), time, time);
    writeFileSync(at(folder, 'Thumbs.db'), 'x');
    expect(await isClean(folder)).toBe(true);
    const { mtimeNs } = statSync(at(folder, 'Z.txt'), { bigint: true });
    const sentinel = await Sentinel.read(folder);
    expect(sentinel?.files?.find((file) => file.path === 'Z.txt')?.mtimeNs).toBe(mtimeNs);
    expect(sentinel?.contentHash).toBe(KNIFE_HASH);
  });

  it('keeps fields it does not know, to the digit', async () => {
    const folder = await pinned();
    const file = at(folder, SENTINEL_NAME);
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace('{', '{ "future": {"n": 12345678901234567890, "x": 1.0},'));
    utimesSync(at(folder, 'Z.txt'), 1, 1);
    expect(await isClean(folder)).toBe(true);
    expect(readFileSync(file, 'utf8')).toMatch(/"n": 12345678901234567890,\s+"x": 1\.0/);
  });

  it('is unknown for a v1 sentinel, which pinning upgrades', async () => {
    const folder = workspace();
    const v1 = { mlxk_version: '2.0.4', created_at: '', managed: true, operation: 'clone' };
    const hash = 'ab'.repeat(32);
    writeFileSync(at(folder, SENTINEL_NAME), JSON.stringify({ ...v1, content_hash: hash }));
    expect(await workspaceFacts(folder)).toMatchObject({
      managed: true,
      contentHash: hash,
      clean: null,
    });
    expect(await pinContentHash(folder)).toBe(KNIFE_HASH);
    expect(await workspaceFacts(folder)).toMatchObject({ contentHash: KNIFE_HASH, clean: true });
  });

  it.each(['../../etc/passwd', '/etc/passwd', 'a\\b', 'C:x', 'a\0b', '', 7])(
    'is unknown when the sentinel names the path %j',
    async (bad) => {
      const folder = await pinned();
      const file = at(folder, SENTINEL_NAME);
      const sentinel = JSON.parse(readFileSync(file, 'utf8')) as {
        file_index: { path: unknown }[];
      };
      sentinel.file_index[0]!.path = bad;
      writeFileSync(file, JSON.stringify(sentinel));
      expect(await isClean(folder)).toBeNull();
    },
  );

  it.each(['', '{', '[]', 'null', '{"managed":"true"}', '{"managed":false}', '{"managed":1}'])(
    'takes a folder whose sentinel is %j for unmanaged',
    async (text) => {
      const folder = workspace();
      writeFileSync(at(folder, SENTINEL_NAME), text);
      expect(await workspaceFacts(folder)).toEqual({
        managed: false,
        origin: null,
        contentHash: null,
        hashModified: null,
        clean: null,
      });
      expect(await pinContentHash(folder)).toBeUndefined();
    },
  );

  it('never throws, whatever a sentinel holds', async () => {
    const folder = workspace();
    const entry = fc.record(
      { path: fc.anything(), size: fc.anything(), mtime_ns: fc.anything(), sha: fc.anything() },
      { requiredKeys: [] },
    );
    const sentinel = fc.record({
      managed: fc.constant(true),
      hash_algorithm: fc.constantFrom('v2', 'v1', null),
      exclude_patterns: fc.oneof(fc.array(fc.string()), fc.anything()),
      file_index: fc.oneof(fc.array(entry), fc.anything()),
      content_hash: fc.anything(),
    });
    await fc.assert(
      fc.asyncProperty(sentinel, async (content) => {
        writeFileSync(at(folder, SENTINEL_NAME), JSON.stringify(content));
        expect([true, false, null]).toContain((await workspaceFacts(folder)).clean);
      }),
      { numRuns: 200 },
    );
  });

  it('works on a folder that cannot be written', async () => {
    const folder = await pinned();
    utimesSync(at(folder, 'Z.txt'), 1, 1);
    chmodSync(folder, 0o500);
    try {
      expect(await isClean(folder)).toBe(true);
    } finally {
      chmodSync(folder, 0o700);
    }
  });
});
