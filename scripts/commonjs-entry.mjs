// The package's entry for `require`: index.cjs, which hands on the ES module's exports, and its types, index.d.cts.
//
// TypeScript's module settings node16 and node18 let a CommonJS declaration name an ES module's types and none of its
// values. So the types are named one by one, and the values are those of `typeof` the module: what either entry gives
// is of the same types.

import { writeFileSync } from 'node:fs';
import path from 'node:path';

import ts from 'typescript';

/** Writes both beside index.js and index.d.ts. @param {string} dist */
export function writeCommonJsEntry(dist) {
  writeFileSync(
    path.join(dist, 'index.cjs'),
    `'use strict';\n\nmodule.exports = require('./index.js');\n`,
  );
  const declarations = `import type * as mlxk from './index.js' with { 'resolution-mode': 'import' };

declare const commonjs: typeof mlxk;
declare namespace commonjs {
${typesOf(path.join(dist, 'index.d.ts')).join('\n')}
}
export = commonjs;
`;
  writeFileSync(path.join(dist, 'index.d.cts'), declarations);
}

/** A line for every type that a module exports, in namespaces as it does. @param {string} file */
function typesOf(file) {
  const program = ts.createProgram([file], {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    types: ['node'],
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${file} is no module`);

  /** @param {ts.Symbol} container @param {string} name @param {string} indent @returns {string[]} */
  const lines = (container, name, indent) =>
    checker.getExportsOfModule(container).flatMap((exported) => {
      const symbol =
        exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const full = `${name}.${exported.name}`;
      if (symbol.flags & ts.SymbolFlags.ValueModule) {
        const inner = lines(symbol, full, `${indent}  `);
        return [`${indent}namespace ${exported.name} {`, ...inner, `${indent}}`];
      }
      if (!(symbol.flags & ts.SymbolFlags.Type)) return [];
      const type = checker.getDeclaredTypeOfSymbol(symbol);
      const parameters =
        type.aliasTypeArguments ?? /** @type {ts.InterfaceType} */ (type).typeParameters ?? [];
      if (parameters.length > 0)
        throw new Error(`${full} is generic, which index.d.cts cannot say`);
      return [`${indent}type ${exported.name} = ${full};`];
    });
  return lines(module, 'mlxk', '  ');
}
