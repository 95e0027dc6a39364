"""The dialogue layout of the model, once for training; chat_template.jinja says the same.

`evaluate.py` checks that both agree. Must not know tensors.
"""

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]
END = "<|im_end|>"


def render(messages, thought=""):
    """(prompt, answer): the answer is what the model learns, with its end token.

    Without a thought the prompt carries the empty thinking block, as the template adds it when
    `enable_thinking` is not set; with one, the model writes the block itself.
    """
    prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}{END}\n" for m in messages[:-1])
    prompt += "<|im_start|>assistant\n"
    answer = messages[-1]["content"] + END
    if thought:
        return prompt, f"<think>\n{thought}\n</think>\n\n{answer}"
    return prompt + "<think>\n\n</think>\n\n", answer
