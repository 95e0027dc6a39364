/**
 * What the cache tells about a model. The JSON contract has the same facts in snake_case (`contracts/`).
 */

/** What a checkpoint was made for, as far as its files tell. */
export type Framework = 'MLX' | 'GGUF' | 'PyTorch' | 'Unknown';

export type ModelType = 'chat' | 'embedding' | 'base' | 'audio' | 'unknown';

export type Capability =
  'text-generation' | 'chat' | 'embeddings' | 'vision' | 'audio' | 'audio-translate-en';

/** Whether the files of a model are whole. Says nothing about whether the model runs here. */
export interface Health {
  readonly healthy: boolean;
  /** What is wrong, or in which way it is right; one of the texts of the contract. */
  readonly reason: string;
}

/** Whether this installation can run a model. */
export interface Compatibility {
  readonly compatible: boolean;
  /** `null` when compatible. */
  readonly reason: string | null;
}

/** What a workspace knows of its own content. */
export interface WorkspaceFacts {
  /** Whether the folder has a sentinel file of this program. */
  readonly managed: boolean;
  /** Hub id it came from. */
  readonly origin: string | null;
  /** `sha256:…` (v2), or bare hexadecimal digits (v1). */
  readonly contentHash: string | null;
  /** When the hash was last pinned, UTC. */
  readonly hashModified: string | null;
  /** Unchanged since then; `null` when that is not known. */
  readonly clean: boolean | null;
}

/** One model of this machine, in the cache or in a workspace. */
export interface ModelEntry {
  /** `org/name`, or the absolute path of a workspace. */
  readonly name: string;
  /** Commit of the chosen snapshot, 40 hexadecimal digits; `null` outside the cache. */
  readonly hash: string | null;
  /** Sum of the file sizes, links followed. */
  readonly sizeBytes: number;
  /** `YYYY-MM-DDTHH:MM:SSZ`, UTC. */
  readonly lastModified: string;
  readonly framework: Framework;
  readonly modelType: ModelType;
  readonly capabilities: readonly Capability[];
  readonly health: 'healthy' | 'unhealthy';
  readonly runtimeCompatible: boolean;
  /** The first problem: of the files, else of running it; `null` when there is none. */
  readonly reason: string | null;
  /** In the Hugging Face cache; a workspace otherwise. */
  readonly cached: boolean;
  readonly origin: string | null;
  readonly contentHash: string | null;
  readonly hashModified: string | null;
  readonly clean: boolean | null;
  /** How a list calls a workspace. */
  readonly displayName?: string;
  /** `quantization` of config.json as it is; only from `show`. */
  readonly quantization?: Readonly<Record<string, unknown>>;
}
