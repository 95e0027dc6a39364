"""Tensors of a model of mlx-lm as other toolkits store them: the inverse of what mlx-lm does when it loads them."""

import mlx.core as mx
import numpy as np

BLOCK = 128  # mlx-lm's block of float8 scales
GROUP = {"int4": 32, "awq": 64}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the value that lies at each place of a word


def float8(name, weight, rng):
    """Scales differ from block to block by up to four times, so that one in the wrong place shows."""
    weight = np.array(weight.astype(mx.float32))
    blocks = [-(-size // BLOCK) for size in weight.shape]
    wide = np.zeros([count * BLOCK for count in blocks], np.float32)
    wide[: weight.shape[0], : weight.shape[1]] = weight
    parts = wide.reshape(blocks[0], BLOCK, blocks[1], BLOCK)
    scales = np.abs(parts).max((1, 3)) / 448 * 2.0 ** rng.integers(0, 3, blocks)
    codes = mx.to_fp8(mx.array((parts / scales[:, None, :, None]).reshape(wide.shape)))
    return {
        name: codes[: weight.shape[0], : weight.shape[1]],
        f"{name}_scale_inv": mx.array(scales.astype(np.float32)),
    }


def words(values, order=range(8)):
    """Values of four bits [.., n * 8] to int32 [.., n], order[i]: which value lies at the i-th place."""
    parts = values.reshape(*values.shape[:-1], -1, 8).astype(np.uint32)
    packed = np.zeros(parts.shape[:-1], np.uint32)
    for place, value in enumerate(order):
        packed |= parts[..., value] << np.uint32(4 * place)
    return mx.array(packed.view(np.int32))


def grouped(weight, size):
    parts = weight.reshape(weight.shape[0], -1, size)
    return parts, np.abs(parts).max(-1, keepdims=True)


def int4(name, weight, rng):
    weight = np.array(weight.astype(mx.float32))
    parts, largest = grouped(weight, GROUP["int4"])
    scales = mx.array(largest[..., 0] / 7).astype(mx.float32)
    values = np.clip(np.round(parts / (largest / 7)), -8, 7) + 8
    module = name.removesuffix(".weight")
    return {
        f"{module}.weight_packed": words(values.reshape(weight.shape)),
        f"{module}.weight_scale": scales,
        f"{module}.weight_shape": mx.array(weight.shape, mx.int32),
    }


def awq(name, weight, rng):
    weight = np.array(weight.astype(mx.float32))
    parts, largest = grouped(weight, GROUP["awq"])
    scales, zeros = largest / 7, rng.integers(6, 10, largest.shape)
    values = np.clip(np.round(parts / scales) + zeros, 0, 15).reshape(weight.shape)
    module = name.removesuffix(".weight")
    return {
        f"{module}.qweight": words(values.T, AWQ_ORDER),
        f"{module}.qzeros": words(zeros[..., 0].T, AWQ_ORDER),
        f"{module}.scales": mx.array(scales[..., 0].T.astype(np.float32)),
    }


def stored(tensors, how, rng):
    """`how`: float8, int4 or awq. Experts come one by one, as they are published."""
    pack = {"float8": float8, "int4": int4, "awq": awq}[how]
    single = {}
    for name, tensor in tensors.items():
        if ".switch_mlp." not in name:
            single[name] = tensor
            continue
        for expert, part in enumerate(tensor):
            single[name.replace(".switch_mlp.", f".experts.{expert}.")] = part
    made = {}
    for name, tensor in sorted(single.items()):
        matrix = name.endswith("_proj.weight") and tensor.ndim == 2
        wanted = ".experts." in name if how == "int4" else matrix
        made |= pack(name, tensor, rng) if wanted else {name: tensor}
    return made
