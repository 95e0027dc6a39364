/**
 * The boundary between TypeScript and the native addon, written down once. Both sides follow this file.
 *
 * Only plain values cross: ids, strings and numbers in; token events out; `cancel` and `credit` back.
 * Every native failure is an `Error` whose `code` is a type of the error table in `errors.ts` and whose `reason` is
 * the finer, stable cause (for example `tensor_missing`). Wrong receivers and wrong argument types are `TypeError`s.
 */

/** What this build is and runs on. */
export interface NativeVersion {
  mlxk: string;
  mlx: string;
  backend: 'cpu' | 'metal' | 'cuda';
  /** Default device: the GPU where the back end has one. */
  device: 'cpu' | 'gpu';
}

/** Affine codes for the keys and values of layers that attend to everything. */
export interface NativeKvQuantization {
  bits: number;
  groupSize: number;
  /** Positions from which on a sequence is packed. */
  start: number;
}

export interface NativeLoadOptions {
  /** Tokens a prefill step processes at most; 0 takes the engine's default for the device. */
  prefillStepSize: number;
  /** Longest context (prompt and answer) in tokens; 0 takes `max_position_embeddings` of the config. */
  contextLength: number;
  /** Budget for weights and caches in bytes; 0 takes the machine's (container limit, physical memory). */
  memoryLimitBytes: number;
  /** Threads of CPU kernels in this process from now on; 0 leaves them as they are. */
  threads: number;
  /** What requests will ask for: the load is refused where it does not fit the model. */
  kv: NativeKvQuantization | undefined;
}

export interface NativeModelInfo {
  /** `model_type` of config.json. */
  modelType: string;
  /** Rows of the embedding: every token id is in [0, vocabSize). */
  vocabSize: number;
  /** Longest context in tokens that this model was loaded for. */
  contextLength: number;
  layers: number;
  /** Bytes of the weights in memory. */
  weightBytes: number;
  /** Largest weight type by bytes, e.g. `float32`, `bfloat16`, `4-bit`. */
  weightType: string;
}

/** Filled, range-checked sampling and length settings; no defaults below this line. */
export interface NativeGenerateParams {
  maxTokens: number;
  /** 0 is greedy. */
  temperature: number;
  /** 1 is off. */
  topP: number;
  /** 0 is off. */
  topK: number;
  /** 0 is off. */
  minP: number;
  /** 64-bit seed; the caller draws one when the user gave none. */
  seed: bigint;
  /** Ids that end the answer; the id itself is delivered in the last event with `end: 'stop'`. */
  stopIds: Uint32Array;
  /** Events the engine may send before it waits for `credit`. */
  credit: number;
  /** What `addAdapter` gave, or 0 for the model as it is. */
  adapter: number;
  kv: NativeKvQuantization | undefined;
  /** Begin with what earlier generations kept of the same tokens, and keep this one's. */
  keepPrefix: boolean;
}

export type NativeEnd = 'stop' | 'length' | 'abort' | 'error';

/**
 * What happened since the last call, in order. Called on the JS thread, never re-entrantly, and never again after
 * `end` was set.
 */
export interface NativeEvents {
  /** New token ids; a stop id is included. */
  tokens: Uint32Array;
  /** Natural-log probability of each of `tokens` under the unfiltered, untempered distribution. */
  logprobs: Float32Array;
  /** Prompt tokens processed so far and in all, when prefill moved. */
  prefill?: { done: number; total: number };
  end?: NativeEnd;
  /** Set with `end: 'error'`: carries `code` and `reason`. */
  error?: Error;
  /** Set with `end`. */
  stats?: NativeStats;
}

export interface NativeStats {
  promptTokens: number;
  /** Prompt tokens taken from the prefix cache. */
  cachedTokens: number;
  completionTokens: number;
  /** Milliseconds from submission to the start of prefill. */
  queueMs: number;
  prefillMs: number;
  decodeMs: number;
  /** Peak bytes MLX had allocated in this process since the load of its first model. */
  peakMemoryBytes: number;
}

export interface NativeGeneration {
  /** Ends the generation before its next step; a last event with `end: 'abort'` follows unless it has ended already. */
  cancel(): void;
  /** Lets the engine send `events` more token events. */
  credit(events: number): void;
}

export interface NativeModel {
  readonly info: NativeModelInfo;
  /**
   * Starts a generation; returns at once. Throws `validation_error` with reason `empty_prompt`, `token_out_of_range`
   * or `context_overflow`, and `disposed` when the model is gone. Ends with `kv_group_size` or
   * `kv_quantization_unsupported` where `kv` does not fit the model.
   */
  generate(
    tokens: Uint32Array,
    params: NativeGenerateParams,
    onEvents: (events: NativeEvents) => void,
  ): NativeGeneration;
  /** Scores after the last id, [vocabSize]; the same throws as `generate`, as a rejection. */
  logits(
    tokens: Uint32Array,
    params: Pick<NativeGenerateParams, 'adapter' | 'kv'>,
  ): Promise<Float32Array>;
  /** Reads the adapter in a folder; its number, for as long as the model lives. */
  addAdapter(folder: string): Promise<number>;
  /** Cancels what runs, waits for the running step, frees everything on the engine thread. Idempotent. */
  dispose(): Promise<void>;
}

/** A parsed tokenizer.json. Immutable; safe to share. */
export interface NativeTokenizer {
  /** Largest id, added tokens included, plus one. */
  readonly vocabSize: number;
  /**
   * @param plain pairs [start, end) of UTF-16 offsets in `text` whose special-token spellings are ordinary text.
   */
  encode(text: string, addSpecialTokens: boolean, plain?: Uint32Array): Uint32Array;
  /** `encode` off the JS thread. */
  encodeAsync(text: string, addSpecialTokens: boolean, plain?: Uint32Array): Promise<Uint32Array>;
  decode(ids: Uint32Array, skipSpecialTokens: boolean): string;
  tokenToId(token: string): number | undefined;
  idToToken(id: number): string | undefined;
  /** Added tokens marked special, by id. */
  specialTokens(): { id: number; content: string }[];
}

/** Turns a stream of ids into pieces of whole characters. */
export interface NativeDetokenizer {
  /** Text that became certain with `id`; often empty in the middle of a character. */
  push(id: number): string;
  /** What is held back, with a replacement character for each broken sequence. */
  finish(): string;
}

export interface NativeTemplateLimits {
  /** Instructions the template may execute. */
  fuel: number;
  /** UTF-8 bytes of output at most. */
  maxOutputBytes: number;
}

/** A compiled chat template (Jinja as Hugging Face checkpoints use it). */
export interface NativeTemplate {
  /**
   * Renders with `context`, a JSON object (`messages`, `tools`, `add_generation_prompt`, `bos_token`, …).
   * Spellings of `guarded` (special tokens) inside strings of `messages` and `tools` are reported in `plain`, so that
   * a user cannot forge a turn boundary.
   */
  render(context: string, guarded: string[]): NativeRendered;
}

export interface NativeRendered {
  text: string;
  /** Pairs [start, end) of UTF-16 offsets for `NativeTokenizer.encode`. */
  plain: Uint32Array;
}

/** One tensor of a safetensors file, as the strict reader found it. */
export interface NativeTensor {
  name: string;
  /** As the format spells it: `BF16`. */
  dtype: string;
  shape: number[];
  /** Position of the first byte in the file. */
  begin: number;
  bytes: number;
}

/** Bytes of one matrix: the parts follow each other. */
export interface NativeByteSource {
  /** Type of the numbers as safetensors spells it, or a block format of GGUF: `Q4_K`. */
  encoding: string;
  /** [position in `files`, first byte, bytes]. */
  parts: [number, number, number][];
}

/** Parameters of a quantized matrix. */
export interface NativeQuantization {
  mode: 'affine' | 'mxfp4' | 'mxfp8' | 'nvfp4';
  bits: number;
  groupSize: number;
}

/** One matrix and what it becomes: dequantized (`from`), cast, quantized (`to`), in this order. */
export interface NativeConversionJob {
  rows: number;
  columns: number;
  weight: NativeByteSource;
  /** With `from`. */
  scales?: NativeByteSource;
  /** With an affine `from`. */
  biases?: NativeByteSource;
  from?: NativeQuantization;
  /** Added to every number, before the cast. */
  add?: number;
  /** Every number is multiplied by it, before the cast. */
  times?: number;
  /** The biases of the source are multiplied by it. */
  biasTimes?: number;
  /** Of a float8 source, one after the other for matrices of `matrixRows` rows; it is bfloat16 once read. */
  blockScales?: {
    scales: NativeByteSource;
    matrixRows: number;
    blockRows: number;
    blockColumns: number;
  };
  /**
   * A plain source that lies transposed: each matrix is `matrixRows` columns, from `first` on, of a block that has `width`
   * of them; the blocks follow each other.
   */
  transposed?: { matrixRows: number; width: number; first: number };
  cast?: 'F16' | 'BF16' | 'F32';
  to?: NativeQuantization;
  /** Undoes llama.cpp's order of the rows of a rotated projection with this many heads. */
  interleavedHeads?: number;
  /** [position in `shards`, position in its `tensors`]. */
  weightTo: [number, number];
  scalesTo?: [number, number];
  biasesTo?: [number, number];
}

export interface NativeConversionPlan {
  /** Source files, absolute. */
  files: string[];
  /** Files to be made, with their tensors in the order mlx-lm hands them to MLX. */
  shards: { path: string; tensors: { name: string; dtype: string; shape: number[] }[] }[];
  jobs: NativeConversionJob[];
}

export interface NativeAddon {
  version(): NativeVersion;
  /**
   * Instruction set (`off` with MLXK_KERNELS=off) and threads of the CPU kernels.
   * @throws `validation_error` where MLXK_CPU_ISA, MLXK_THREADS or MLXK_KERNELS asks for what cannot be.
   */
  cpu(): { isa: string; threads: number };
  /** Registered `model_type`s, sorted. */
  modelTypes(): string[];
  /** Loads a folder with config.json and *.safetensors. Progress is in bytes read. */
  loadModel(
    folder: string,
    options: NativeLoadOptions,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): { promise: Promise<NativeModel>; cancel(): void };
  /** Header of a safetensors file, proved sound; sorted by position. */
  readSafetensors(path: string): Promise<NativeTensor[]>;
  /**
   * Makes safetensors files. Progress is in source bytes. A failure leaves files behind that the caller removes.
   *
   * @param plan a `NativeConversionPlan` as JSON
   */
  convert(
    plan: string,
    onProgress: (doneBytes: number, totalBytes: number) => void,
  ): { promise: Promise<void>; cancel(): void };
  /** Rejects when a folder's config and the names, types and shapes of its tensors make no model; reads no tensor. */
  checkModel(folder: string): Promise<void>;
  /** @throws `validation_error` / `tokenizer_invalid`. `json` is the content of tokenizer.json. */
  Tokenizer: new (json: Uint8Array) => NativeTokenizer;
  Detokenizer: new (tokenizer: NativeTokenizer, skipSpecialTokens: boolean) => NativeDetokenizer;
  /** @throws `validation_error` / `template_invalid` with line and message. */
  ChatTemplate: new (source: string, limits: NativeTemplateLimits) => NativeTemplate;
}
