import { describe, expect, it } from 'vitest';

import { run } from '../helpers/child.js';

/** What the install script says of this machine's C library, of versions of glibc, and of another library (`null`). */
async function faults(...versions: (string | null)[]): Promise<(string | null)[]> {
  const module = JSON.stringify(new URL('../../scripts/build/libc.mjs', import.meta.url).href);
  const others = `${JSON.stringify(versions)}.map((version) => libcFault(version) ?? null)`;
  const own = process.platform === 'linux' ? 'libcFault() ?? null' : 'null';
  const source = `import { libcFault } from ${module}; console.log(JSON.stringify([${own}, ...${others}]));`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source]);
  return JSON.parse(stdout) as (string | null)[];
}

describe('the C library', () => {
  it('may be glibc 2.35 or newer, as here', async () => {
    expect(await faults('2.35', '2.36', '2.100', '3.0')).toEqual([null, null, null, null, null]);
  });

  it('must not be older, or another', async () => {
    const [, ...said] = await faults('2.34', '2.9', '1.40', null);
    for (const fault of said) expect(fault).toContain('need glibc 2.35 or newer');
    expect(said[0]).toContain('this system has 2.34.');
    expect(said[3]).toContain('musl');
  });
});
