/**
 * What `mlxk show` prints, for a program and for a person. Pure.
 */

import type { ModelMetadata, ShownModel } from '../cache/show.js';
import type { ModelEntry } from '../cache/types.js';
import { modelObject } from '../contracts/model-object.js';
import { age, decimalBytes } from '../format.js';
import { visibleLine } from '../visible.js';
import type { Data } from './command.js';
import { cleanMark } from './model-table.js';

const HASH_DIGITS = 7;
/** Of a content hash, with its `sha256:`. */
const CONTENT_HASH_SHOWN = 23;

/** `data` of the envelope. */
export function shownModel(shown: ShownModel): Data {
  const metadata = shown.metadata === null ? null : contractMetadata(shown.metadata);
  return {
    model: modelObject(shown.model),
    workspace_metadata: shown.workspaceMetadata,
    metadata,
    ...(shown.files !== undefined && { files: shown.files }),
    ...(shown.config !== undefined && { config: shown.config }),
    ...(shown.hashUpdated === true && { hash_updated: true }),
  };
}

function contractMetadata(metadata: ModelMetadata): Record<string, unknown> {
  return {
    ...whereGiven('model_type', metadata.modelType),
    ...whereGiven('architecture', metadata.architecture),
    ...whereGiven('quantization', metadata.quantization),
    ...whereGiven('context_length', metadata.contextLength),
    ...whereGiven('vocab_size', metadata.vocabSize),
    ...whereGiven('hidden_size', metadata.hiddenSize),
    ...whereGiven('num_attention_heads', metadata.numAttentionHeads),
    ...whereGiven('num_hidden_layers', metadata.numHiddenLayers),
  };
}

function whereGiven(key: string, value: string | number | undefined): Record<string, unknown> {
  return value === undefined ? {} : { [key]: value };
}

export function shownText(shown: ShownModel): string {
  const { model } = shown;
  const hash = model.hash === null ? '' : `@${model.hash.slice(0, HASH_DIGITS)}`;
  const lines = [
    `Model: ${model.name}${hash}`,
    `Framework: ${model.framework}`,
    `Type: ${model.modelType}`,
    `Capabilities: ${model.capabilities.join(', ') || '-'}`,
    `Quantization: ${quantization(shown)}`,
    `Size: ${decimalBytes(model.sizeBytes)}`,
    `Modified: ${age(Date.parse(model.lastModified) / 1000, Date.now() / 1000)}`,
    `Health: ${health(model)}`,
    ...(model.reason === null ? [] : [`Reason: ${model.reason}`]),
    ...details(shown),
    ...workspace(shown),
    ...(shown.hashUpdated === true ? ['', 'Content hash recalculated.'] : []),
  ];
  return lines.map((line) => `${visibleLine(line)}\n`).join('');
}

function quantization({ model, workspaceMetadata }: ShownModel): string {
  const is = quantizationText(model.quantization);
  const requested = quantizationText(workspaceMetadata?.quantization);
  return requested === '-' || requested === is ? is : `${is} (requested: ${requested})`;
}

function quantizationText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return '-';
  const { bits, group_size: groupSize } = value as Record<string, unknown>;
  if (typeof bits !== 'number') return '-';
  return typeof groupSize === 'number' ? `${bits}-bit (group_size=${groupSize})` : `${bits}-bit`;
}

function health(model: ModelEntry): string {
  if (model.health === 'unhealthy') return 'unhealthy';
  return model.runtimeCompatible ? 'healthy' : 'healthy (files OK, runtime incompatible)';
}

function details(shown: ShownModel): string[] {
  if (shown.files !== undefined) {
    return ['', 'Files:', ...shown.files.map((f) => `  - ${f.name} (${f.type}, ${f.size})`)];
  }
  if (shown.config !== undefined) return titled('Config:', shown.config);
  return titled('Metadata:', shown.metadata === null ? null : contractMetadata(shown.metadata));
}

function titled(title: string, members: Readonly<Record<string, unknown>> | null): string[] {
  if (members === null) return [];
  const text = (value: unknown): string =>
    typeof value === 'string' ? value : JSON.stringify(value);
  return ['', title, ...Object.entries(members).map(([key, value]) => `  ${key}: ${text(value)}`)];
}

function workspace({ model, workspaceMetadata: facts }: ShownModel): string[] {
  if (facts === null || model.origin === null) return [];
  const text = (value: unknown): string => (typeof value === 'string' ? value : '-');
  return [
    '',
    'Workspace:',
    `  Source: ${model.origin}`,
    `  Operation: ${text(facts.operation)}`,
    `  Created: ${text(facts.created_at)}`,
    `  Clean: ${cleanMark(model)}`,
    `  Content Hash: ${model.contentHash === null ? '-' : `${model.contentHash.slice(0, CONTENT_HASH_SHOWN)}...`}`,
    `  Hash Modified: ${text(model.hashModified)}`,
  ];
}
