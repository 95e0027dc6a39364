import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';

import { afterAll, describe, expect, it } from 'vitest';

import { isClean } from '../../lib/workspace/content-hash.js';
import { builtPackage, program, run } from '../helpers/child.js';
import { FixtureCache, type Files, writeFiles } from '../helpers/fixture-cache.js';
import { parseEnvelope, violations } from '../helpers/schemas.js';
import { SMALL_CONFIG, smallModelFolder } from '../helpers/small-model.js';
import { removeTemporaryFolders, temporaryFolder } from '../helpers/temporary.js';
import { safetensors, safetensorsHead } from '../helpers/weights.js';

afterAll(removeTemporaryFolders);

const cache = new FixtureCache();

function folderOf(files: Files): string {
  const folder = path.join(temporaryFolder(), 'source');
  writeFiles(folder, files);
  return folder;
}

function fresh(name = 'made'): string {
  return path.join(temporaryFolder(), name);
}

/** Names and bytes of everything in a folder. */
function content(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    files
      .filter((name) => statSync(path.join(folder, name), { throwIfNoEntry: false })?.isFile())
      .map((name) => [name, readFileSync(path.join(folder, name), 'base64')]),
  );
}

async function converted(args: readonly string[], env: Record<string, string> = {}) {
  const ended = await cache.json(['convert', ...args], { env });
  if (ended.data !== null) expect(violations(ended.data, 'data/convert.json')).toEqual([]);
  return ended;
}

const SHARDED: Files = {
  'config.json': SMALL_CONFIG,
  'model-00001-of-00003.safetensors': safetensors({ 'b.weight': ['F32', [2, 2]] }),
  'model-00002-of-00003.safetensors': safetensors({ 'c.weight': ['F32', [2]] }),
  'model-00003-of-00003.safetensors': safetensors({
    'a.weight': ['F32', [4]],
    'Z.x': ['F32', [1]],
  }),
  'model.safetensors.index.json': {
    weight_map: { 'a.weight': 'model-00001-of-00009.safetensors' },
  },
  'README.md': '# kept\n',
  'extra/deep/notes.txt': 'kept too',
  '.git/HEAD': 'not kept',
};

describe('convert --repair-index', () => {
  it('writes the index of the shards that are there, and leaves the source alone', async () => {
    const source = folderOf(SHARDED);
    const before = content(source);
    const target = fresh();
    const { code, data } = await converted([source, target, '--repair-index']);
    expect(code).toBe(0);
    expect(data).toMatchObject({
      source,
      target,
      mode: 'repair-index',
      health_check: true,
      health_status: 'healthy',
      content_hash: expect.stringMatching(/^sha256:/) as string,
    });
    const text = readFileSync(path.join(target, 'model.safetensors.index.json'), 'utf8');
    const index = JSON.parse(text) as { weight_map: object; metadata: object };
    expect(Object.entries(index.weight_map)).toEqual([
      ['Z.x', 'model-00003-of-00003.safetensors'],
      ['a.weight', 'model-00003-of-00003.safetensors'],
      ['b.weight', 'model-00001-of-00003.safetensors'],
      ['c.weight', 'model-00002-of-00003.safetensors'],
    ]);
    const shards = readdirSync(source).filter((name) => name.endsWith('.safetensors'));
    const size = shards.reduce((sum, name) => sum + statSync(path.join(source, name)).size, 0);
    expect(index.metadata).toEqual({ total_size: size });
    expect(content(source)).toEqual(before);
    expect(readdirSync(path.dirname(target))).toEqual(['made']);
    expect(readdirSync(target).sort()).toEqual([
      '.mlxk_workspace.json',
      'README.md',
      'config.json',
      'extra',
      ...shards,
      'model.safetensors.index.json',
    ]);
    expect(readFileSync(path.join(target, 'extra/deep/notes.txt'), 'utf8')).toBe('kept too');
    expect(await isClean(target)).toBe(true);
  });

  it('needs no index for a single file', async () => {
    const target = fresh();
    const { code, data } = await converted([smallModelFolder(), target, '--repair-index']);
    expect(code).toBe(0);
    expect(data).toMatchObject({
      health_status: 'healthy',
      message: expect.stringContaining('no index') as string,
    });
    expect(existsSync(path.join(target, 'model.safetensors.index.json'))).toBe(false);
  });

  it('takes an empty folder for its target', async () => {
    const target = temporaryFolder();
    const { code } = await converted([folderOf(SHARDED), target, '--repair-index']);
    expect(code).toBe(0);
    expect(existsSync(path.join(target, 'config.json'))).toBe(true);
  });

  it('refuses a tensor that two files hold, and leaves nothing behind', async () => {
    const twice = {
      'model-00002-of-00003.safetensors': SHARDED['model-00001-of-00003.safetensors']!,
    };
    const target = fresh();
    const { code, error } = await converted([
      folderOf({ ...SHARDED, ...twice }),
      target,
      '--repair-index',
    ]);
    expect(code).toBe(1);
    expect(error).toMatchObject({
      type: 'ValueError',
      message: expect.stringContaining('Duplicate tensor "b.weight"') as string,
    });
    expect(readdirSync(path.dirname(target))).toEqual([]);
  });

  it('tells of an output that is not healthy, and leaves it in place', async () => {
    const source = folderOf({ ...SHARDED, 'tokenizer_config.json': '{' });
    const target = fresh();
    const { code, error, data } = await converted([source, target, '--repair-index']);
    expect(code).toBe(1);
    expect(error).toMatchObject({ type: 'HealthCheckFailed' });
    expect(data).toMatchObject({
      health_status: 'unhealthy',
      health_reason: 'tokenizer_config.json contains invalid JSON',
    });
    expect(existsSync(target)).toBe(true);
    const skipped = await converted([source, fresh(), '--repair-index', '--skip-health']);
    expect(skipped.code).toBe(0);
    expect(skipped.data).toMatchObject({ health_check: false });
    expect(skipped.data).not.toHaveProperty('health_status');
  });

  it('follows no link that leaves the source', async () => {
    const source = folderOf(SHARDED);
    symlinkSync('/etc/passwd', path.join(source, 'innocent.txt'));
    const target = fresh();
    const { error } = await converted([source, target, '--repair-index']);
    expect(error).toMatchObject({
      type: 'ValueError',
      message: expect.stringContaining('innocent.txt') as string,
    });
    expect(existsSync(target)).toBe(false);
  });
});

describe('the arguments of convert', () => {
  it.each([
    [['--repair-index', '--quantize', '4']],
    [[]],
    [['--quantize', '5']],
    [['--quantize', 'four']],
    [['--quantize', '4.5']],
    [['--quantize', '4', '--q-group-size', '48']],
    [['--quantize', '4', '--mode', 'mxfp8']],
    [['--quantize', '8', '--mode', 'nvfp4']],
    [['--quantize', '4', '--mode', 'gptq']],
    [['--quantize', '4', '--mixed', 'mixed_9_9']],
    [['--mixed', 'mixed_4_6', '--dequantize']],
    [['--repair-index', '--dtype', 'float16']],
    [['--dtype', 'float8']],
    [['--dequantize', '--quantize', '4']],
  ])('%j is an InvalidArgumentError', async (flags) => {
    const target = fresh();
    const { code, error, command } = await converted([smallModelFolder(), target, ...flags]);
    expect({ code, command, type: error?.type }).toEqual({
      code: 1,
      command: 'convert',
      type: 'InvalidArgumentError',
    });
    expect(existsSync(target)).toBe(false);
  });

  it('are the names of the command line in messages', async () => {
    const { stderr } = await cache.run(['convert', 'a', 'b', '--quantize', '5']);
    expect(stderr).toBe('convert: Error: --quantize must be one of 2, 3, 4, 6, 8, got 5\n');
  });

  it.each([
    [
      'a source that is not there',
      (at: string) => [path.join(at, 'none'), path.join(at, 'x')],
      /does not exist/,
    ],
    [
      'a source that is a file',
      (at: string) => [path.join(at, 'file'), path.join(at, 'x')],
      /must be a directory/,
    ],
    ['a target that exists', (at: string) => [smallModelFolder(), path.join(at, 'full')], /exists/],
    ['an empty source', (at: string) => ['', path.join(at, 'x')], /does not exist/],
    ['an empty target', () => [smallModelFolder(), ''], /is empty/],
    [
      'a target whose name is too long',
      (at: string) => [smallModelFolder(), path.join(at, 'x'.repeat(300))],
      /is too long/,
    ],
    [
      'a target that is a link to nowhere',
      (at: string) => [smallModelFolder(), path.join(at, 'nowhere')],
      /leads nowhere/,
    ],
    [
      'a target inside the source',
      () => {
        const source = smallModelFolder();
        return [source, path.join(source, 'x')];
      },
      /inside the source/,
    ],
    [
      'a target without a parent',
      (at: string) => [smallModelFolder(), path.join(at, 'no/where')],
      /Parent/,
    ],
  ])('refuse %s', async (_, pathsIn, message) => {
    const at = temporaryFolder();
    writeFiles(at, { file: 'x', 'full/x': 'x' });
    symlinkSync('/none/at/all', path.join(at, 'nowhere'));
    const before = content(at);
    const { code, error } = await converted([...pathsIn(at), '--quantize', '4']);
    expect(code).toBe(1);
    expect(error).toMatchObject({
      type: 'ValueError',
      message: expect.stringMatching(message) as string,
    });
    expect(content(at)).toEqual(before);
  });

  it('refuse a target with something in it, and an empty one where weights are made', async () => {
    const full = folderOf({ x: 'x' });
    const repair = await converted([folderOf(SHARDED), full, '--repair-index']);
    expect(repair.error).toMatchObject({
      type: 'ValueError',
      message: expect.stringContaining('not empty') as string,
    });
    const empty = await converted([smallModelFolder(), temporaryFolder(), '--quantize', '4']);
    expect(empty.error).toMatchObject({
      type: 'ValueError',
      message: expect.stringContaining('exists') as string,
    });
  });

  it('refuse a source and a target inside the cache', async () => {
    const snapshot = cache.add('org/model', { 'config.json': SMALL_CONFIG });
    const source = await converted([snapshot, fresh(), '--repair-index']);
    expect(source.error?.message).toMatch(/cache.*mlxk clone/s);
    const target = await converted([
      smallModelFolder(),
      path.join(cache.hub, 'new'),
      '--repair-index',
    ]);
    expect(target.error?.message).toMatch(/cache.*outside/s);
    const disguised = path.join(temporaryFolder(), 'link');
    symlinkSync(cache.hub, disguised);
    const linked = await converted([
      smallModelFolder(),
      path.join(disguised, 'new'),
      '--repair-index',
    ]);
    expect(linked.error?.message).toMatch(/cache/);
    expect(existsSync(path.join(cache.hub, 'new'))).toBe(false);
  });

  it('take names of the workspace home', async () => {
    const home = temporaryFolder();
    writeFiles(path.join(home, 'mine'), SHARDED);
    const { code, data } = await converted(['mine', 'mended', '--repair-index'], {
      MLXK_WORKSPACE_HOME: home,
    });
    expect(code).toBe(0);
    expect(data).toMatchObject({ source: 'mine', target: 'mended' });
    expect(readdirSync(home).sort()).toEqual(['mended', 'mine']);
  });
});

describe('what convert --quantize takes', () => {
  const weights = {
    'model.safetensors': safetensors({ 'model.embed_tokens.weight': ['F32', [4, 64]] }),
  };

  it.each([
    [{ model_type: 'llama4', vision_config: {} }, 'unsupported_multimodal'],
    [{ model_type: 'unheard_of', vision_config: {} }, 'unsupported_multimodal'],
    [{ model_type: 'llama', audio_config: { a: 1 } }, 'unsupported_multimodal'],
    [{ model_type: 'whisper' }, 'not_implemented'],
    [{ model_type: 'idefics3' }, 'not_implemented'],
    [{ model_type: 'GEMMA3', vision_config: { a: 1 } }, 'not_implemented'],
    [{ model_type: 'unheard_of' }, 'not_implemented'],
  ])('not %j', async (config, type) => {
    const target = fresh();
    const { code, error } = await converted([
      folderOf({ 'config.json': config, ...weights }),
      target,
      '--quantize',
      '4',
    ]);
    expect(code).toBe(1);
    expect(error).toMatchObject({
      type,
      detail: { model_type: config.model_type, operation: 'convert --quantize' },
    });
    expect(readdirSync(path.dirname(target))).toEqual([]);
  });

  it.each([
    ['vision', 'GEMMA3'],
    ['speech', 'Voxtral'],
  ])('and says that it is a %s model', async (route, model_type) => {
    const { error } = await converted([
      folderOf({ 'config.json': { model_type }, ...weights }),
      fresh(),
      '--quantize',
      '4',
    ]);
    expect(error).toMatchObject({ detail: { route } });
  });

  it('a text model, whose vision_config is null', async () => {
    const source = smallModelFolder();
    writeFiles(source, { 'config.json': { ...SMALL_CONFIG, vision_config: null } });
    const target = fresh();
    const { code, data } = await converted([source, target, '--quantize', '4']);
    expect(code).toBe(0);
    expect(data).toMatchObject({
      mode: 'quantize',
      bits: 4,
      group_size: 64,
      health_status: 'healthy',
    });
    expect(data).not.toHaveProperty('warning');
    const sentinel = JSON.parse(
      readFileSync(path.join(target, '.mlxk_workspace.json'), 'utf8'),
    ) as object;
    expect(sentinel).toMatchObject({
      managed: true,
      operation: 'convert',
      mode: 'quantize',
      source_repo: path.basename(source),
      quantization: { bits: 4, group_size: 64 },
      content_hash: data?.['content_hash'],
    });
    const again = await converted([target, fresh(), '--quantize', '8']);
    expect(again.code).toBe(0);
    expect(again.data).toMatchObject({
      bits: 8,
      warning: expect.stringContaining('already 4-bit') as string,
    });
    const answer = await cache.run(['show', target]);
    expect(answer.stdout).toContain('4-bit (group_size=64)');
  });

  it('not weights of a foreign quantization', async () => {
    const quantization_config = { quant_method: 'awq', bits: 4 };
    const source = folderOf({
      'config.json': { ...SMALL_CONFIG, quantization_config },
      ...weights,
    });
    const { error } = await converted([source, fresh(), '--quantize', '4']);
    expect(error).toMatchObject({
      type: 'not_implemented',
      message: expect.stringContaining('awq') as string,
    });
  });

  it.each([
    ['cut short', (file: Buffer) => file.subarray(0, file.length - 1), 'ValueError'],
    [
      'a pointer',
      () => Buffer.from('version https://git-lfs.github.com/spec/v1\noid x\n'),
      'ValueError',
    ],
  ])('not a file that is %s', async (_, broken, type) => {
    const source = smallModelFolder();
    const file = path.join(source, 'model.safetensors');
    writeFileSync(file, broken(readFileSync(file)));
    const target = fresh();
    const { error } = await converted([source, target, '--quantize', '4']);
    expect(error).toMatchObject({
      type,
      message: expect.stringContaining('model.safetensors') as string,
    });
    expect(readdirSync(path.dirname(target))).toEqual([]);
  });
});

describe('a conversion that does not come to its end', () => {
  /** Takes many steps of the engine: a gigabyte of zeros that takes no room on the disk. */
  function largeModel(): string {
    const folder = folderOf({ 'config.json': SMALL_CONFIG });
    const [head, size] = safetensorsHead({ 'model.embed_tokens.weight': ['F32', [262_144, 1024]] });
    const file = openSync(path.join(folder, 'model.safetensors'), 'w');
    writeSync(file, head);
    ftruncateSync(file, head.length + size);
    closeSync(file);
    return folder;
  }

  it('needs little memory for a matrix of any size', async () => {
    const source = largeModel();
    const script = `import { cache } from ${JSON.stringify(builtPackage)};
      await cache.convert(...process.argv.slice(1), { quantize: 4, skipHealth: true });
      console.log(process.resourceUsage().maxRSS);`;
    const args = ['--input-type=module', '-e', script, source, fresh()];
    const { stdout, stderr } = await run(process.execPath, args, { env: cache.env });
    expect(stderr).toBe('');
    expect(Number(stdout)).toBeGreaterThan(0);
    expect(Number(stdout)).toBeLessThan(400 * 1024); // KiB, for a matrix of 1 GiB
  });

  async function started(target: string) {
    const args = [program, 'convert', largeModel(), target, '--quantize', '4', '--json'];
    const child = spawn(process.execPath, args, { env: { ...process.env, ...cache.env } });
    let stdout = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    const parent = path.dirname(target);
    const making = (): boolean =>
      readdirSync(parent).some((name) => existsSync(path.join(parent, name, 'model.safetensors')));
    while (!making() && child.exitCode === null) await new Promise((go) => setTimeout(go, 5));
    return { child, ended, output: () => stdout };
  }

  it('by Ctrl-C leaves nothing behind', async () => {
    const target = fresh();
    const { child, ended, output } = await started(target);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(parseEnvelope(output())).toMatchObject({
      command: 'convert',
      error: { type: 'UserCancelledError' },
    });
    expect(readdirSync(path.dirname(target))).toEqual([]);
  });

  it('by kill leaves a hidden folder, which the next one beside it removes', async () => {
    const target = fresh();
    const parent = path.dirname(target);
    const { child, ended } = await started(target);
    child.kill('SIGKILL');
    await ended;
    expect(readdirSync(parent)).toEqual([expect.stringMatching(/^\.mlxk_making_/)]);
    mkdirSync(path.join(parent, '.mlxk_making_1_mine'));
    expect((await converted([smallModelFolder(), target, '--quantize', '4'])).code).toBe(0);
    expect(readdirSync(parent).sort()).toEqual(['.mlxk_making_1_mine', 'made']);
  });

  it('by a disk that takes no more leaves nothing behind', async () => {
    const target = fresh();
    const words = ['convert', smallModelFolder(), target, '--quantize', '8', '--json'];
    const script = 'ulimit -f 32; exec "$@"';
    const args = ['-c', script, 'sh', process.execPath, program, ...words];
    const { code, stdout } = await run('sh', args, { env: cache.env });
    expect(code).toBe(1);
    expect(parseEnvelope(stdout).error).toMatchObject({
      type: 'OSError',
      message: expect.stringContaining('cannot be written') as string,
    });
    expect(readdirSync(path.dirname(target))).toEqual([]);
  });
});

describe('what a person sees of convert', () => {
  it('is the folder, what was done, and the check', async () => {
    const source = smallModelFolder();
    const target = fresh();
    const { code, stdout, stderr } = await cache.run([
      'convert',
      source,
      target,
      '--quantize',
      '4',
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(
      `convert: ${source} → ${target}\n  Mode: quantize\n` +
        '  Quantized 20 tensors to 4 bits (affine, groups of 64)\n  ✓ Health check: passed\n',
    );
  });
});
