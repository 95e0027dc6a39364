// What `npm install` runs: takes a fitting prebuilt addon, or finds that the built one is up to date, or builds from
// source in numbered steps. `--from-source` never takes a prebuild.

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { compile, configureAddon, jobs } from './build/addon.mjs';
import { chosenBackend } from './build/backend.mjs';
import { BuildFailure } from './build/failure.mjs';
import { fingerprint } from './build/inputs.mjs';
import { layOut } from './build/layout.mjs';
import { libcFault } from './build/libc.mjs';
import { alone } from './build/lock.mjs';
import { bringMlxC, installedMlxC } from './build/mlx-c.mjs';
import { addonFile, build, cmakeFolder, root, textFolder } from './build/paths.mjs';
import { fittingPrebuild, loadFault } from './build/prebuilt.mjs';
import { Progress } from './build/progress.mjs';
import { buildText } from './build/text.mjs';
import { checkTools, hasCMake } from './build/tools.mjs';
import { bringWheels } from './build/wheels.mjs';

const stampFile = path.join(build, 'stamp');

async function install() {
  const backend = chosenBackend();
  if (!process.argv.includes('--from-source')) {
    const { file, why } = fittingPrebuild(backend);
    if (file) {
      process.stderr.write(`mlxk uses the prebuilt addon ${file}\n`);
      return;
    }
    if (why) process.stderr.write(`mlxk: ${why}; building from source\n`);
  }
  await alone(async () => {
    const wanted = fingerprint(backend);
    if (
      existsSync(addonFile) &&
      existsSync(stampFile) &&
      readFileSync(stampFile, 'utf8') === wanted
    ) {
      process.stderr.write(`mlxk: the native addon (${backend}) is up to date\n`);
      return;
    }
    rmSync(stampFile, { force: true });
    await buildFromSource(backend);
    // A package that somebody installed is not built again: what the compilers left is six times what is run.
    if (root.split(path.sep).includes('node_modules')) {
      for (const folder of [textFolder, cmakeFolder]) rmSync(folder, { recursive: true });
    }
    writeFileSync(stampFile, wanted);
  });
}

/** @param {string} backend */
async function buildFromSource(backend) {
  const progress = new Progress(7);
  const installed = await progress.step(
    1,
    `Checking tools for the ${backend} back end`,
    async () => {
      const found = hasCMake() && (await installedMlxC());
      const fault = !found && process.platform === 'linux' ? libcFault() : undefined;
      if (fault) throw new BuildFailure(fault);
      checkTools(!found);
      return found;
    },
  );

  // The Rust library is needed by the last link only, and its own last crate keeps one core busy: it runs beside the
  // rest.
  const text = progress.step(4, 'Building the text library (Rust)', buildText);
  // Awaited below; a failure before that must not count as unhandled.
  text.catch(() => undefined);

  const [mlx, mlxC] = installed
    ? [undefined, undefined]
    : [
        await progress.step(2, 'MLX 0.32.2', (note) => bringWheels(`mlx-${backend}`, note)),
        await progress.step(3, 'Sources of mlx-c 0.7.0', bringMlxC),
      ];
  await progress.step(
    5,
    `Compiling mlx-c and the engine (C++, ${jobs} at a time)`,
    async (note) => {
      await configureAddon({ backend, mlx, mlxC });
      await compile([...(mlxC ? ['mlxc'] : []), 'mlxk_core', 'mlxk_models'], note);
    },
  );
  await text;
  await progress.step(6, 'Linking the addon', async (note) => {
    await compile(['mlxk'], note);
    layOut(mlx);
  });
  await progress.step(7, 'Loading it', async (note) => {
    const fault = loadFault(addonFile);
    // A machine without a GPU may build for one that has it.
    const driverOnly = backend.startsWith('cuda') && fault?.includes('libcuda.so.1');
    if (driverOnly) note('not possible here: the NVIDIA driver (libcuda.so.1) is missing');
    else if (fault) throw new BuildFailure(fault);
  });
  progress.done('The native addon is ready');
}

try {
  await install();
} catch (error) {
  const text = error instanceof BuildFailure ? error.message : /** @type {Error} */ (error).stack;
  process.stderr.write(`\nmlxk: the native addon was not built.\n${text}\n`);
  // Not exitCode: a text build that runs beside would keep the process.
  process.exit(1);
}
