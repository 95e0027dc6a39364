import { expect, it } from 'vitest';

import { addon } from '../../lib/binding.js';
import { SUPPORTED_ARCHITECTURES } from '../../lib/supported-architectures.js';

it('the list of architectures is what the engine has registered; `npm run build:ts` renews it', () => {
  expect(SUPPORTED_ARCHITECTURES).toEqual(addon().modelTypes());
});
