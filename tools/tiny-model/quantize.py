"""Affine quantization in the layout MLX reads: groups along the inputs, a scale and a bias each.

Must not know files or the model.
"""

import numpy as np

GROUP, BITS = 64, 8
LEVELS = 2**BITS - 1


def quantize(w):
    """(words, scales, biases): four 8-bit levels in a uint32, lowest byte first."""
    groups = w.astype(np.float32).reshape(w.shape[0], -1, GROUP)
    low, high = groups.min(-1, keepdims=True), groups.max(-1, keepdims=True)
    scales = np.maximum((high - low) / LEVELS, 1e-7)
    levels = np.clip(np.rint((groups - low) / scales), 0, LEVELS).astype(np.uint8)
    words = levels.reshape(w.shape[0], -1).view("<u4")
    return words, scales[..., 0].astype(np.float32), low[..., 0].astype(np.float32)


def dequantize(words, scales, biases):
    levels = words.view(np.uint8).reshape(*scales.shape, GROUP).astype(np.float32)
    return (levels * scales[..., None] + biases[..., None]).reshape(words.shape[0], -1)
