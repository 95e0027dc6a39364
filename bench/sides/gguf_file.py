"""A GGUF file for timing: what all architectures' files have in common."""

import gguf
import numpy as np


def begin(file, architecture, sizes, *, tokens, pre, eps, theta):
    """A writer with the metadata in it; `sizes` names GGUFWriter's `add_…` methods and what each takes."""
    writer = gguf.GGUFWriter(str(file), architecture)
    for name, value in sizes.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_rope_freq_base(theta)
    # Ids are what is timed: the vocabulary only has to be there.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([f"<{i}>" for i in range(tokens)])
    writer.add_token_types([gguf.TokenType.NORMAL] * tokens)
    writer.add_token_merges(["< 0"])
    writer.add_eos_token_id(0)
    return writer


def add_ones(writer, name, width):
    writer.add_tensor(f"{name}.weight", np.ones(width, dtype=np.float32))


def add_matrix(writer, name, values, kind):
    packed = gguf.quants.quantize(values, kind)
    writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
