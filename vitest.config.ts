import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Each file in a process of its own: a crash of the addon is then that file's failure, not everybody's.
    pool: 'forks',
    maxWorkers: 2,
    // Slow shared machines; no test waits for time to pass.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
