/**
 * The order in which mlx-lm lists the parameters of a model: that of its Python classes. It decides which tensors share
 * a file, and where they lie in it, so files agree byte for byte. For an architecture that is not listed the order may
 * differ; its files are as good. Compared with mlx-lm for every architecture of the reference data.
 */

/** Names of modules and parameters, those before others that come first where both are children of one module. */
const USUAL = [
  ...['model', 'language_model', 'embed_tokens', 'wte', 'wpe', 'layers', 'h'],
  ...['norm', 'embedding_norm', 'final_layernorm', 'ln_f', 'lm_head'],
  // Of a layer.
  ...['conv', 'linear_attn', 'attn', 'self_attn', 'mlp', 'block_sparse_moe', 'feed_forward'],
  ...['ln_1', 'ln_2', 'input_layernorm', 'operator_norm', 'ffn_norm', 'post_attention_layernorm'],
  ...['pre_feedforward_layernorm', 'post_feedforward_layernorm'],
  ...['post_self_attn_layernorm', 'post_mlp_layernorm'],
  // Of attention.
  ...['sinks', 'q_a_proj', 'q_a_layernorm', 'q_b_proj', 'kv_a_proj_with_mqa', 'kv_a_layernorm'],
  ...['embed_q', 'unembed_out', 'qkv_proj', 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'dense'],
  ...['q_norm', 'k_norm', 'q_layernorm', 'k_layernorm', 'query_layernorm', 'key_layernorm'],
  ...['conv1d', 'in_proj_qkvz', 'in_proj_ba', 'in_proj', 'dt_bias', 'A_log', 'out_proj'],
  ...['c_attn', 'c_fc', 'c_proj', 'fc1', 'fc2'],
  // Of a feed-forward network.
  ...[
    'gate',
    'experts',
    'switch_mlp',
    'router',
    'gate_up_proj',
    'gate_proj',
    'down_proj',
    'up_proj',
  ],
  ...['w1', 'w3', 'w2', 'shared_experts', 'shared_expert', 'shared_expert_gate'],
  ...['weight', 'scales', 'biases', 'bias', 'e_score_correction_bias'],
];

const UP_BEFORE_DOWN = ['gate_proj', 'up_proj', 'down_proj'];
const MLA = [
  'q_a_proj',
  'q_a_layernorm',
  'q_b_proj',
  'kv_a_proj_with_mqa',
  'kv_a_layernorm',
  'embed_q',
  'unembed_out',
];
const MLP_LAST = ['self_attn', 'linear_attn', 'input_layernorm', 'post_attention_layernorm', 'mlp'];

/** Children of modules of these names stand in another order than usual. */
const BY_PARENT: Readonly<Record<string, readonly string[]>> = {
  switch_mlp: UP_BEFORE_DOWN,
  experts: UP_BEFORE_DOWN,
  linear_attn: ['conv1d', 'in_proj_qkvz', 'in_proj_ba', 'dt_bias', 'A_log', 'norm', 'out_proj'],
};

/** Files of mlx-lm whose classes list something in another order than usual. */
const BY_CLASS: Readonly<Record<string, readonly string[]>> = {
  cohere: UP_BEFORE_DOWN,
  cohere2: UP_BEFORE_DOWN,
  deepseek_v3: ['q_proj', ...MLA, ...UP_BEFORE_DOWN, 'switch_mlp', 'gate'],
  glm4_moe: [...UP_BEFORE_DOWN, 'switch_mlp', 'gate'],
  gemma2: ['pre_feedforward_layernorm', 'post_feedforward_layernorm', 'post_attention_layernorm'],
  gpt_oss: ['embed_tokens', 'norm', 'layers'],
  lfm2: ['q_layernorm', 'k_layernorm', 'q_proj', 'k_proj', 'v_proj'],
  phi: ['self_attn', 'input_layernorm', 'mlp'],
  qwen3_moe: MLP_LAST,
  qwen3_next: MLP_LAST,
};

/** Compares two parameter names as mlx-lm would list them. */
export function parameterOrder(modelClass: string): (a: string, b: string) => number {
  const ofClass = reordered(USUAL, BY_CLASS[modelClass] ?? []);
  const usual = ranks(ofClass);
  const byParent = new Map(
    Object.entries(BY_PARENT).map(([name, list]) => [name, ranks(reordered(ofClass, list))]),
  );
  return (a, b) => {
    const first = a.split('.');
    const second = b.split('.');
    const at = first.findIndex((part, index) => part !== second[index]);
    const [left, right] = [first[at], second[at]];
    if (left === undefined || right === undefined) return first.length - second.length;
    if (isNumber(left) && isNumber(right)) return Number(left) - Number(right);
    const rank = byParent.get(first[at - 1] ?? '') ?? usual;
    const last = rank.size;
    const difference = (rank.get(left) ?? last) - (rank.get(right) ?? last);
    return difference !== 0 ? difference : left < right ? -1 : 1;
  };
}

function isNumber(part: string): boolean {
  return /^\d+$/.test(part);
}

/** The names of `special`, in its order, on the places they have among the others. */
function reordered(names: readonly string[], special: readonly string[]): string[] {
  const next = special.values();
  return names.map((name) => (special.includes(name) ? (next.next().value ?? name) : name));
}

function ranks(names: readonly string[]): Map<string, number> {
  return new Map(names.map((name, rank) => [name, rank]));
}
