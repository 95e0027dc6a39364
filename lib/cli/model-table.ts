/**
 * The table of `mlxk list`. Pure.
 */

import type { ModelEntry } from '../cache/types.js';
import { age, decimalBytes } from '../format.js';
import { type Column, renderTable } from './table.js';

export interface TableStyle {
  readonly all?: boolean;
  readonly health?: boolean;
  readonly verbose?: boolean;
}

interface ModelColumn extends Column {
  readonly cell: (entry: ModelEntry) => string;
}

/** An owner that most models have is left out of their names. */
const USUAL_OWNER = 'mlx-community/';
const HASH_DIGITS = 7;
const MAX_REASON = 60;
const REASON_WIDTH = 26;

/** @param now seconds since 1970 */
export function modelTable(
  entries: readonly ModelEntry[],
  { all = false, health = false, verbose = false }: TableStyle,
  now: number,
): string {
  const wide = all || verbose;
  const columns: ModelColumn[] = [
    { title: 'Name', cell: (entry) => shownName(entry, verbose) },
    { title: 'Hash', cell: shownHash },
    { title: 'Size', cell: ({ sizeBytes }) => decimalBytes(sizeBytes) },
    { title: 'Modified', cell: (entry) => age(Date.parse(entry.lastModified) / 1000, now) },
    { title: 'Src', cell: source },
    ...(wide ? [{ title: 'Clean', cell: cleanMark }] : []),
    ...(wide ? [{ title: 'Framework', cell: (entry: ModelEntry) => entry.framework }] : []),
    { title: 'Type', cell: shownType },
    ...healthColumns(health, verbose),
  ];
  const shown = entries.filter((entry) => all || runsHere(entry));
  return renderTable(
    columns,
    shown.map((entry) => columns.map(({ cell }) => cell(entry))),
  );
}

/** Whether the plain list shows a model. */
export function runsHere({ health, runtimeCompatible }: ModelEntry): boolean {
  return health === 'healthy' && runtimeCompatible;
}

function healthColumns(health: boolean, verbose: boolean): ModelColumn[] {
  if (!health) return [];
  if (!verbose) return [{ title: 'Health', cell: shownHealth }];
  return [
    { title: 'Integrity', cell: (entry) => entry.health },
    { title: 'Runtime', cell: runtime },
    { title: 'Reason', cell: ({ reason }) => shortened(reason ?? ''), maxWidth: REASON_WIDTH },
  ];
}

function shownName({ name, displayName }: ModelEntry, verbose: boolean): string {
  if (displayName !== undefined) return displayName;
  return !verbose && name.startsWith(USUAL_OWNER) ? name.slice(USUAL_OWNER.length) : name;
}

function shownHash({ hash, contentHash }: ModelEntry): string {
  const digits = hash ?? contentHash?.replace(/^sha256:/, '');
  return digits === undefined ? '-' : digits.slice(0, HASH_DIGITS);
}

function source({ cached, clean }: ModelEntry): string {
  if (cached) return 'cache';
  return clean === null ? 'ws?' : clean ? 'ws' : 'ws*';
}

/** How a workspace stands to its pinned hash. */
export function cleanMark({ cached, clean }: ModelEntry): string {
  if (cached || clean === null) return '—';
  return clean ? '✓' : '✗';
}

function shownType({ modelType, capabilities }: ModelEntry): string {
  const media = capabilities.filter(
    (entry) => entry === 'vision' || (entry === 'audio' && modelType !== 'audio'),
  );
  return [modelType, ...media].join('+');
}

function shownHealth(entry: ModelEntry): string {
  if (entry.health === 'unhealthy') return 'unhealthy';
  return entry.runtimeCompatible ? 'healthy' : 'healthy*';
}

function runtime(entry: ModelEntry): string {
  if (entry.health === 'unhealthy') return '-';
  return entry.runtimeCompatible ? 'yes' : 'no';
}

function shortened(text: string): string {
  return text.length > MAX_REASON ? `${text.slice(0, MAX_REASON - 3)}...` : text;
}
