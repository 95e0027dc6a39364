/**
 * How long the commands take that run no model: the version beside a Node that does nothing, and the list of a cache of
 * 500 fabricated models. Fresh processes, files in the page cache.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { median } from '../report.mjs';

const MODELS = 500;
const RUNS = 15;
const command = fileURLToPath(new URL('../../bin/mlxk.js', import.meta.url));

export async function measure() {
  const home = mkdtempSync(path.join(os.tmpdir(), 'mlxk-bench-'));
  try {
    for (let i = 0; i < MODELS; i++) addModel(path.join(home, 'hub'), i);
    const commands = {
      'node -e 0': ['-e', '0'],
      'mlxk --version': [command, '--version'],
      [`mlxk list, ${MODELS} models`]: [command, 'list'],
      [`mlxk list --json, ${MODELS} models`]: [command, 'list', '--json'],
    };
    const samples = Object.fromEntries(Object.keys(commands).map((name) => [name, []]));
    // The first round warms the page cache and is not kept.
    for (let run = 0; run <= RUNS; run++) {
      for (const [name, args] of Object.entries(commands)) {
        const ms = timeOf(args, home);
        if (run > 0) samples[name].push(ms);
      }
    }
    const rows = Object.entries(samples).map(([name, values]) => ({
      name,
      unit: 'ms',
      mlxk: median(values),
      samples: values,
    }));
    return { conditions: `${RUNS} fresh processes each, in turns, warm page cache`, rows };
  } finally {
    rmSync(home, { recursive: true });
  }
}

function timeOf(args, home) {
  const env = { ...process.env, HF_HOME: home, HF_HUB_CACHE: '', MLXK_WORKSPACE_HOME: '' };
  const started = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { env });
  if (status !== 0) throw new Error(`${args.join(' ')} ended with ${status}: ${stderr}`);
  return performance.now() - started;
}

/** A model as the hub's tools lay it out, with small files of the usual sizes and weights of a few bytes. */
function addModel(hub, index) {
  const repository = path.join(hub, `models--mlx-community--model-${index}-4bit`);
  const commit = createHash('sha1').update(String(index)).digest('hex');
  const snapshot = path.join(repository, 'snapshots', commit);
  for (const folder of [snapshot, path.join(repository, 'blobs'), path.join(repository, 'refs')]) {
    mkdirSync(folder, { recursive: true });
  }
  writeFileSync(path.join(repository, 'refs', 'main'), commit);
  const tensors = Array.from({ length: 300 }, (_, i) => [`model.${i}`, 'model.safetensors']);
  const files = {
    '.gitattributes': 'x'.repeat(1500),
    'README.md': `---\nlibrary_name: mlx\ntags: [mlx]\n---\n${'word '.repeat(500)}`,
    'config.json': JSON.stringify({ model_type: 'llama', quantization: { bits: 4 } }),
    'model.safetensors': 'x'.repeat(100),
    'model.safetensors.index.json': JSON.stringify({ weight_map: Object.fromEntries(tensors) }),
    'special_tokens_map.json': '{}',
    'tokenizer.json': ' '.repeat(5000),
    'tokenizer_config.json': JSON.stringify({ chat_template: 'x'.repeat(20_000) }),
  };
  for (const [name, content] of Object.entries(files)) {
    const blob = createHash('sha256').update(`${index}/${name}`).digest('hex');
    writeFileSync(path.join(repository, 'blobs', blob), content);
    symlinkSync(path.join('..', '..', 'blobs', blob), path.join(snapshot, name));
  }
}
