"""The pattern language of the questions: alternatives, shared frames, and noise.

Owns how one pattern becomes many sentences. Must not know any topic.
A pattern is text with `{a|b|}` for a choice (nesting allowed). A pattern that starts with `~` is
held out: it is never used for training, only for the evaluation set.
"""

import re

CHOICE = re.compile(r"\{([^{}]*)\}")


def expand(pattern, random):
    """One sentence of a pattern: innermost choices first, spaces tidied."""
    while True:
        found = CHOICE.search(pattern)
        if not found:
            return re.sub(r"\s+([,.!?])", r"\1", re.sub(r"\s+", " ", pattern)).strip()
        chosen = random.choice(found.group(1).split("|"))
        pattern = pattern[: found.start()] + chosen + pattern[found.end():]


def split(patterns):
    """(training patterns, held-out patterns)."""
    return [p for p in patterns if not p.startswith("~")], [
        p[1:] for p in patterns if p.startswith("~")
    ]


# Frames around a verb phrase in its base form ("list my models").
DO_FRAMES = [
    "how {do|can|would|should|could|shall} {i|i|i|you|we} {@}?",
    "how {do|can} i {@} {with|in|using} mlxk?",
    "how to {@}?",
    "how does one {@}?",
    "how do people {@}?",
    "{what is|what's|whats} the {command|way|best way|right command|easiest way} to {@}?",
    "{what|which} command {lets me|can i use to|do i use to|is used to|do i need to|would} {@}?",
    "{what|which} mlxk command {lets me|do i use to|do i need to} {@}?",
    "{can|could|would} you {tell|show} me how {to|i can} {@}?",
    "{please|} {tell|show} me how {to|i can} {@}.",
    "i {want|need|would like|wish|have} to {@}.",
    "i want to {@}, {how|what do i type|what do i do|which command}?",
    "i'd like to {@}.",
    "is there {a|any} {command|way|option} {to|that lets me} {@}?",
    "is it possible to {@}?",
    "{command|way|how} to {@}",
    "what {do|should|must|can} i {type|run|do|use} to {@}?",
    "{can|could|may} i {@}?",
    "{can|could|does} mlxk {@}?",
    "{please|} help me {@}.",
    "{i am|i'm|im} trying to {@}.",
    "{@}",
    "{@} please",
    "explain how to {@}.",
    "does mlxk let me {@}?",
    "i {don't know|do not know|forgot|can't remember} how to {@}.",
    "how would {someone|a user} {@}?",
    "what if i want to {@}?",
    "if i want to {@}, what do i {type|run|do}?",
    "what is the {syntax|option|flag|proper way} to {@}?",
    "need to {@}",
    "want to {@}",
    "let me {@}",
    "what would i enter to {@}?",
    "any idea how to {@}?",
    "teach me to {@}.",
    "~how might i {@}?",
    "do you know how i {@}?",
    "what is needed to {@}?",
    "i wonder how to {@}.",
    "{quick question|question}: how do i {@}?",
]

# Frames around a noun phrase ("the license of mlxk", "a safetensors file").
WHAT_FRAMES = [
    "{what is|what's|whats} {@}?",
    "{what is|what's} {@} {for|about|exactly}?",
    "what does {@} mean?",
    "what do you know about {@}?",
    "{tell me|say something} about {@}.",
    "{please|} explain {@}.",
    "{can|could} you {explain|describe} {@}?",
    "{@}?",
    "what is the meaning of {@}?",
    "describe {@}.",
    "what {exactly|actually} is {@}?",
    "i want to know {about|more about} {@}.",
    "what does {@} do?",
    "help with {@}",
    "could you tell me something about {@}?",
    "~i have a question about {@}.",
    "what is meant by {@}?",
    "information on {@}, please.",
]

OPENERS = [
    "hi, ", "hello, ", "hey, ", "ok, ", "so ", "please ", "hi! ", "hello! ", "well, ", "and ", "excuse me, ",
    "sorry, ", "ok so ", "now ", "hey there, ", "i am new here, ", "um, ",
    "just wondering, ", "by the way, ", "btw ", "alright, ", "also, ", "but ", "listen, ",
]
CLOSERS = [
    " please", " thanks", ", please", " now", " then", " again", " today", " exactly", " right now",
    " actually", " here", " anyway", " quickly", ", thanks", " for me", " by the way", " at all",
]
# Around a whole question.
WRAPPERS = [
    "do you know {@}", "can you tell me {@}", "could you tell me {@}", "tell me {@}", "i want to know {@}",
    "i'd like to know {@}", "i need to know {@}", "please tell me {@}", "say, {@}", "my question is {@}",
    "i am asking {@}", "someone asked me {@}", "help me out, {@}", "hey model, {@}", "{@} i need to know",
    "{@} tell me", "{@} do you know", "my friend asks: {@}", "mlxk, {@}", "i forgot: {@}", "i was asked {@}",
    "remind me, {@}", "would you tell me {@}", "i am not sure, {@}", "my next question is {@}",
    "{@} i am curious", "{@} please tell me", "{@} can you say?", "do you happen to know {@}",
]
ASKING = ("what", "who", "how", "where", "when", "which", "is ", "are ", "does ", "do ", "can ", "why", "at ", "in ")


def wrap(text, random):
    """A question put into a longer sentence now and then."""
    if not text.startswith(ASKING) or random.random() > 0.10:
        return text
    frame = random.choice(WRAPPERS)
    bare = text.rstrip("?.! ") + (random.choice([",", "?", ""]) if frame.startswith("{@}") else text[-1:] * (text[-1:] in "?"))
    return frame.replace("{@}", bare)


FILLERS = ["just", "actually", "really", "simply", "quickly", "maybe", "currently", "exactly", "still",
           "perhaps", "also", "easily", "usually"]
SMALL = {"the", "a", "an", "my", "do", "does", "is", "to", "i", "of", "me", "you", "can", "please"}

# Words that may stand for each other in any question, one direction only.
SYNONYMS = {
    "model": ["llm", "language model", "network", "checkpoint"],
    "models": ["llms", "language models", "networks", "checkpoints"],
    "machine": ["laptop", "computer", "mac", "pc", "box", "notebook"],
    "computer": ["laptop", "machine", "mac", "pc", "notebook"],
    "disk": ["hard drive", "drive", "ssd", "hard disk"],
    "answer": ["reply", "response", "output"], "answers": ["replies", "responses", "outputs"],
    "folder": ["directory", "dir"], "directory": ["folder", "dir"],
    "show": ["display", "print", "give me", "tell me"], "see": ["look at", "view", "check", "look up", "figure out"],
    "get": ["have", "obtain", "grab", "receive"], "use": ["work with", "utilize", "try"],
    "delete": ["remove", "erase", "get rid of"], "download": ["fetch", "pull", "get"],
    "downloaded": ["fetched", "pulled", "got", "installed"], "start": ["launch", "begin", "open", "fire up"],
    "set": ["specify", "choose", "define", "pass"], "change": ["modify", "adjust", "alter", "switch"],
    "stop": ["halt", "end", "interrupt"], "find": ["locate", "look up", "get"],
    "make": ["create", "produce", "let"], "create": ["make", "produce", "generate"],
    "text": ["words", "string", "content"], "prompt": ["question", "input"], "question": ["prompt", "query"],
    "error": ["failure", "problem", "message"], "works": ["runs", "is fine"], "program": ["tool", "app", "software"],
    "big": ["large", "huge"], "large": ["big", "huge"], "small": ["little", "tiny"], "fast": ["quick"],
    "quickly": ["fast"], "option": ["flag", "switch", "parameter", "argument"], "flag": ["option", "switch", "parameter"],
    "command": ["instruction", "subcommand", "cmd"], "supported": ["available", "possible", "allowed"],
    "support": ["handle", "offer", "have", "allow"], "typescript": ["ts", "javascript", "node"],
    "code": ["my code", "typescript", "a script", "source code"], "conversation": ["chat", "dialogue", "discussion"],
    "stored": ["kept", "saved", "placed", "living"], "want": ["need", "wish", "would like", "have"],
    "how do i": ["how can i", "how would i", "how to", "what do i do to", "how should i", "how could i"],
    "how can i": ["how do i", "how to", "how could i"], "what is": ["what's", "whats", "tell me"],
    "hugging face": ["huggingface", "hf", "the hub"], "cannot": ["can't", "can not"],
    "does it": ["does mlxk", "will it", "can it"], "is there": ["do you have", "is there maybe"],
    "tell me": ["say", "give me", "let me know"], "how many": ["what number of", "how many"],
    "called": ["named"], "wrong": ["incorrect", "false"], "which": ["what"], "my": ["the", "our"], "a": ["one", "some"],
}


# Names as careful people spell them.
SPELLED = {word.lower(): word for word in (
    "CUDA GPU CPU Python TypeScript JavaScript Node Node.js JSON API HTTP OpenAI Linux Windows macOS Mac MacBook "
    "Qwen3 Qwen Llama Mistral Gemma DeepSeek Phi GGUF NVIDIA Metal Apple MLX URL ID ESM RAM SSD AI USA UK US "
    "ChatGPT GPT Claude German French Spanish English Italian Chinese Japanese Russian Earth Mars Jupiter Mercury Everest "
    "Monday Tuesday Sunday January December February Christmas Shakespeare Hamlet Macbeth Romeo Juliet Eiffel Tower "
    "Europe America Britain London Paris Berlin Rome Tokyo Madrid Siri Alexa Google Microsoft Einstein Newton Napoleon Mozart "
    "Netflix Minecraft Bitcoin Obama Lincoln Java SQL HTML CSS Rust Docker Kubernetes Git C++ Titanic Bible Amazon "
    "SDK REPL HF Ubuntu Debian Intel ARM BF16 FP16 MIT NPM PyTorch ONNX Anna Peter John Maria Sam Tom Lisa Max Emma Paul "
    "David Sarah Bob Alice Kate Mike Jane Celsius I").split()}
SPELLED |= {"huggingface": "HuggingFace", "hugging": "Hugging", "face": "Face"}


def spelled(text):
    return re.sub(r"[\w.+]+", lambda word: SPELLED.get(word[0], word[0]), text)


def synonyms(text, random):
    """Each replaceable word gives way to another now and then."""
    for word, others in SYNONYMS.items():
        if word in text and random.random() < 0.25:
            text = re.sub(rf"\b{word}\b", random.choice(others), text, count=1)
    return text


def typo(word, random):
    """One slip of the fingers inside a longer word; numbers and options stay as they are."""
    if len(word) < 5 or not word.isalpha():
        return word
    at = random.randrange(1, len(word) - 1)
    kind = random.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1:]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2:]
    return word[:at] + word[at] + word[at:]


def noise(text, random, hard=True):
    """The same question as hurried people type it. `hard` allows other words, typos and gaps."""
    text = wrap(text, random)
    if hard and random.random() < 0.35:
        text = synonyms(text, random)
    if hard and random.random() < 0.06:
        words = text.split(" ")
        words.insert(random.randrange(len(words) + 1), random.choice(FILLERS))
        text = " ".join(words)
    if hard and random.random() < 0.12:
        text = random.choice(OPENERS) + text
    if hard and random.random() < 0.08:
        bare = text.rstrip("?.! ")
        text = bare + random.choice(CLOSERS) + text[len(bare):]
    if hard and random.random() < 0.15:
        words = text.split(" ")
        few = [w for w in words if w.lower() not in SMALL or random.random() < 0.6]
        text = " ".join(few) if len(few) > 1 else text
    if hard and random.random() < 0.15:
        words = text.split(" ")
        at = random.randrange(len(words))
        words[at] = typo(words[at], random)
        text = " ".join(words)
    if random.random() < 0.45:
        text = spelled(text)
    roll = random.random()
    if roll < 0.45:
        text = text[:1].upper() + text[1:]
    elif roll < 0.50:
        text = text.upper()
    roll = random.random()
    if roll < 0.40:
        text = text.rstrip("?.!")
    elif roll < 0.45:
        text = text.rstrip("?.!") + random.choice([" ?", "!", "??", "..."])
    return re.sub(r"\bi\b", "I", text) if random.random() < 0.5 else text
