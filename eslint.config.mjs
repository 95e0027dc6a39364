// TypeScript under the strict, type-aware rules; the plain scripts under the recommended ones.

import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  {
    ignores: [
      '**/.venv/',
      'build/',
      'dist/',
      'prebuilds/',
      'coverage/',
      'native/',
      'test/goldens/',
    ],
  },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Numbers read well in messages, and cannot be mistaken.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
      ],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // A test says what it knows of its own data; a wrong guess fails it.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Bad input is what many tests are about.
      '@typescript-eslint/no-confusing-void-expression': 'off',
    },
  },
  {
    files: ['*.config.*'],
    rules: { 'no-restricted-syntax': 'off' },
  },
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: {
      globals: {
        process: 'readonly',
        performance: 'readonly',
        console: 'readonly',
        URL: 'readonly',
      },
    },
    rules: {
      // Naming a property is how the rest is had without it.
      'no-unused-vars': ['error', { ignoreRestSiblings: true }],
    },
  },
);
