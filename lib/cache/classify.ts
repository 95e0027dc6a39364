/**
 * What kind of model a folder holds: framework, type, capabilities. Told from small files and names alone; weights
 * are never opened.
 */

import path from 'node:path';

import { isObject, type ModelFolder } from './model-folder.js';
import type { Capability, Framework, ModelType } from './types.js';

/** Types of config.json that are chat models which see. */
const VISION_TYPES = new Set([
  'llava',
  'llava_next',
  'pixtral',
  'qwen2_vl',
  'phi3_v',
  'mllama',
  'paligemma',
  'idefics',
  'smolvlm',
]);
const AUDIO_FAMILIES = ['whisper', 'vibevoice', 'voxtral'];
const AUDIO_TYPES = ['gemma3n', 'gemma3n_audio', ...AUDIO_FAMILIES, 'audio'];
const DECLARED_ENCODERS = new Set(['xlm-roberta', 'modernbert', 'nomic_bert']);
const CAUSAL_TYPES = new Set(['qwen3', 'mistral']);
const EMBEDDING_NAMES = ['qwen3-embedding'];

/** `model_type` of config.json in lower case, or the empty string. */
export function configType(model: ModelFolder): string {
  const type = model.members('config.json').model_type;
  return typeof type === 'string' ? type.toLowerCase() : '';
}

/** @param name hub id, or the name of a workspace's folder */
export function frameworkOf(model: ModelFolder, name: string): Framework {
  if (name.includes('mlx-community/')) return 'MLX';
  if ('quantization' in model.members('config.json')) return 'MLX';
  if (readmeSaysMlx(model)) return 'MLX';
  const any = (pattern: RegExp): boolean =>
    model.files.some((file) => pattern.test(path.posix.basename(file.name)));
  if (any(/\.gguf$/)) return 'GGUF';
  if (any(/\.safetensors$|^pytorch_model.*\.bin$/)) return 'PyTorch';
  return 'Unknown';
}

/** Front matter is a page at most; what follows is prose. */
const FRONT_MATTER_BYTES = 64 * 1024;

/** Whether the front matter of the model card has the tag `mlx`, or names it as its library. */
function readmeSaysMlx(model: ModelFolder): boolean {
  if (!model.has('README.md')) return false;
  const text = model.start('README.md', FRONT_MATTER_BYTES).toString('utf8');
  const [, block] = /^\ufeff?---\r?\n(.*?\n)---/s.exec(text) ?? [];
  if (block === undefined) return false;
  const lines = block.split(/\r?\n/);
  const valueOf = (key: string): string | undefined =>
    lines.find((line) => line.toLowerCase().startsWith(`${key}:`))?.slice(key.length + 1);
  if (plain(valueOf('library_name') ?? '') === 'mlx') return true;
  return tagsOf(lines, valueOf('tags')).includes('mlx');
}

/** Tags in brackets on the line of the key, or one a line below it after a dash. */
function tagsOf(lines: readonly string[], inline: string | undefined): string[] {
  if (inline === undefined) return [];
  if (inline.trim() !== '') return inline.replace(/[[\]]/g, '').split(',').map(plain);
  const start = lines.findIndex((line) => /^tags:/i.test(line)) + 1;
  const end = lines.findIndex((line, index) => index >= start && !/^\s*-\s/.test(line));
  return lines
    .slice(start, end < 0 ? lines.length : end)
    .map((line) => plain(line.replace(/^\s*-/, '')));
}

function plain(value: string): string {
  return value
    .trim()
    .replace(/^(["'])(.*)\1$/, '$2')
    .toLowerCase();
}

/** How a model makes embeddings: with a causal decoder, a kind of encoder that runs, or one that does not. */
export type EmbedderKind = 'decoder' | 'encoder' | 'declared-encoder';

export function embedderKind(model: ModelFolder, name: string): EmbedderKind | undefined {
  const type = configType(model);
  if (type === 'bert') return 'encoder';
  if (DECLARED_ENCODERS.has(type)) return 'declared-encoder';
  // Shared by plain causal models and EmbeddingGemma, and no embedder in either case.
  if (type === 'gemma3_text') return undefined;
  const { architectures } = model.members('config.json');
  const isCausal =
    CAUSAL_TYPES.has(type) ||
    (Array.isArray(architectures) &&
      architectures.some((entry) => typeof entry === 'string' && entry.endsWith('ForCausalLM')));
  const lowered = name.toLowerCase();
  const isNamed =
    lowered.includes('embed') || EMBEDDING_NAMES.some((known) => lowered.includes(known));
  return isCausal && isNamed ? 'decoder' : undefined;
}

export function modelTypeOf(model: ModelFolder, name: string): ModelType {
  if (embedderKind(model, name) !== undefined) return 'embedding';
  const type = configType(model);
  if (type === 'chat' || VISION_TYPES.has(type)) return 'chat';
  if (AUDIO_FAMILIES.some((family) => type.includes(family))) return 'audio';
  return hasChatTemplate(model) || isNamedChat(name) ? 'chat' : 'base';
}

function isNamedChat(name: string): boolean {
  return /instruct|chat/i.test(name);
}

/** Asked in the order of cost: a tokenizer.json of several megabytes comes last, and is not parsed without need. */
function hasChatTemplate(model: ModelFolder): boolean {
  if (model.has('chat_template.jinja') || model.has('chat_template.json')) return true;
  if (isTemplate(model.members('tokenizer_config.json').chat_template)) return true;
  if (!model.bytes('tokenizer.json').includes('"chat_template"')) return false;
  return isTemplate(model.members('tokenizer.json').chat_template);
}

function isTemplate(value: unknown): boolean {
  return (typeof value === 'string' || Array.isArray(value)) && value.length > 0;
}

/** @param type what `modelTypeOf` says of it */
export function capabilitiesOf(model: ModelFolder, name: string, type: ModelType): Capability[] {
  if (type === 'embedding') return ['embeddings'];
  if (type === 'audio')
    return translates(model, name) ? ['audio', 'audio-translate-en'] : ['audio'];
  return [
    'text-generation',
    ...(type === 'chat' ? (['chat'] as const) : []),
    ...(hasVision(model) ? (['vision'] as const) : []),
    ...(hasAudio(model) ? (['audio'] as const) : []),
  ];
}

/** Whether a model takes pictures. A processor's file alone may also be one of sound or of moving pictures. */
export function hasVision(model: ModelFolder): boolean {
  const config = model.members('config.json');
  if (isFilled(config.vision_config) || VISION_TYPES.has(configType(model))) return true;
  if (isTruthy(config.image_processor)) return true;
  const own = config.preprocessor_config;
  if (isObject(own) && !isVideoProcessor(own)) return true;
  return PROCESSOR_FILES.some((name) => model.hasAnywhere(name)) && !isOfOtherMedium(model);
}

const PROCESSOR_FILES = [
  'preprocessor_config.json',
  'processor_config.json',
  'image_processor_config.json',
];

function isOfOtherMedium(model: ModelFolder): boolean {
  const preprocessor = model.members('preprocessor_config.json');
  return (
    hasAudioFeatures(model) ||
    model.hasAnywhere('video_preprocessor_config.json') ||
    isVideoProcessor(preprocessor) ||
    'temporal_patch_size' in preprocessor
  );
}

function isVideoProcessor(preprocessor: Readonly<Record<string, unknown>>): boolean {
  return Object.values(preprocessor).includes('AutoVideoProcessor');
}

/** Whether a model takes sound. `audio_seq_length` of a processor tells nothing: Gemma 4 always has it. */
function hasAudio(model: ModelFolder): boolean {
  const { audio_config: audio } = model.members('config.json');
  const type = configType(model);
  return (
    isFilled(audio) || AUDIO_TYPES.some((part) => type.includes(part)) || hasAudioFeatures(model)
  );
}

function hasAudioFeatures(model: ModelFolder): boolean {
  const extractor = model.members('preprocessor_config.json').feature_extractor_type;
  return typeof extractor === 'string' && extractor.toLowerCase().includes('whisper');
}

/** Whisper translates into English, except models of English alone and those with a turbo decoder. */
function translates(model: ModelFolder, name: string): boolean {
  return (
    configType(model) === 'whisper' &&
    !/whisper-(tiny|base|small|medium)\.en/i.test(name) &&
    !/turbo/i.test(name)
  );
}

function isFilled(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length > 0;
}

/** As Python sees it, which the checkpoints are written for. */
function isTruthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isObject(value) ? isFilled(value) : Boolean(value);
}
