/**
 * The direction of dependencies in the native sources, read from their include lines.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

const native = fileURLToPath(new URL('../native/', import.meta.url));

/** Every include of our own C++, with forward slashes; `name` is the header as it is written. */
const includes = readdirSync(native, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => /\.(cpp|h)$/.test(file) && !file.startsWith('text/'))
  .flatMap((file) =>
    [...readFileSync(native + file, 'utf8').matchAll(/^\s*#\s*include\s*[<"]([^>"]+)[>"]/gm)].map(
      (match) => ({
        file,
        name: match[1]!,
      }),
    ),
  );

/** The files that include a header of this name. */
function users(header: RegExp): string[] {
  return [
    ...new Set(includes.filter(({ name }) => header.test(name)).map(({ file }) => file)),
  ].sort();
}

const BRIDGE = /^(addon\w*|channel|environment|js_error|mailbox)\.(cpp|h)$/;

describe('native sources', () => {
  it('name mlx-c in the wrapper alone', () => {
    expect(users(/^mlx\/c\//)).toEqual(['mx_call.h']);
    expect(users(/(^|\/)mx_call\.h$/)).toEqual(['mx.cpp', 'mx_kernels.cpp']);
  });

  it('ask for our kernels in one file of that wrapper alone', () => {
    const found = users(/(^|\/)kernels\.h$/).filter((file) => !file.startsWith('kernels/'));
    expect(found).toEqual(['mx_kernels.cpp']);
  });

  it('name the C++ headers of MLX in kernels alone', () => {
    expect(users(/^mlx\/(?!c\/)/).filter((file) => !file.startsWith('kernels/'))).toEqual([]);
  });

  it('name Node in the bridge to JavaScript alone', () => {
    const found = users(/^(napi|node|node_api|js_native_api|uv|v8)\b/);
    expect(found).toContain('channel.h');
    expect(found.filter((file) => !BRIDGE.test(file))).toEqual([]);
  });

  it('know that bridge nowhere below it', () => {
    const found = users(BRIDGE);
    expect(found).toContain('addon.cpp');
    expect(found.filter((file) => !BRIDGE.test(file))).toEqual([]);
  });

  it('name the text library in its C++ face alone', () => {
    expect(users(/\bmlxk_text\.h$/)).toEqual(['text.h']);
  });
});
