"""Questions with their answers, and the dialogues made of them.

Owns the mixture of the subjects, the system messages and the follow-up turns. `questions` draws
training material only; `held_out` gives the wordings that training never sees.
"""

from dataclasses import dataclass, field

from . import facts, help, numbers, talk, unknown
from .grammar import DO_FRAMES, WHAT_FRAMES, expand, noise, split

DO_TRAIN, DO_HELD = split(DO_FRAMES)
WHAT_TRAIN, WHAT_HELD = split(WHAT_FRAMES)
CAPITAL_TRAIN, CAPITAL_HELD = split(facts.CAPITAL_ASK)
CITY_TRAIN, CITY_HELD = split(facts.CITY_ASK)
UNKNOWN_TRAIN, UNKNOWN_HELD = split(unknown.ASK)
LARGE_TRAIN, LARGE_HELD = split(numbers.TOO_LARGE_ASK)
MIXTURE = {"help": 43, "talk": 13, "fact": 12, "capital": 5, "arithmetic": 15, "unknown": 12}

SYSTEM = [
    "You are a helpful assistant.", "You are the help of mlxk.", "Answer briefly.", "Be brief.",
    "You are a friendly assistant.", "You are mlxk's built-in model.", "Be polite.",
    "Answer in one sentence.", "You are a helpful AI assistant.", "Help the user with mlxk.",
    "Answer the question.", "You answer questions about mlxk.", "Keep it short.",
    "You are a chat bot.", "Be helpful and honest.", "You are an expert.", "Reply in English.",
    "Say so when you do not know.", "You are a careful assistant. Answer in plain words.",
    "You are a pirate.", "You are a teacher.", "Respond concisely.", "Today is a good day.",
    "The user is a programmer.", "The user works with Node and TypeScript.", "Assist the user.",
    "You are a command line assistant.", "Use simple words.", "Do not make things up.",
]


@dataclass
class Question:
    """One question and the right answer; `marks` are strings of which one shows it is right."""

    category: str
    topic: str
    text: str
    answer: str
    marks: list = field(default_factory=list)


def framed(frame, phrase, random):
    """`{@}` of a frame replaced by a phrase, both expanded."""
    return expand(frame.replace("{@}", phrase), random)


def help_question(random, entry=None):
    topic, answer, marks, do, what, ask = entry or random.choice(help.HELP)
    do, what, ask = split(do)[0], split(what)[0], split(ask)[0]
    kind = random.choices(["do", "what", "ask"], [5 * bool(do), 2 * bool(what), 4 * bool(ask)])[0]
    if kind == "do":
        text = framed(random.choice(DO_TRAIN), random.choice(do), random)
    elif kind == "what":
        text = framed(random.choice(WHAT_TRAIN), random.choice(what), random)
    else:
        text = expand(random.choice(ask), random)
    return Question("help", topic, noise(text, random), answer, marks)


def talk_question(random):
    topic, answer, marks, ask = random.choice(talk.TALK)
    return Question("talk", topic, noise(expand(random.choice(split(ask)[0]), random), random),
                    answer, marks)


def fact_question(random):
    answer, marks, ask = random.choice(facts.FACTS)
    return Question("fact", "a plain fact",
                    noise(expand(random.choice(split(ask)[0]), random), random), answer, marks)


def spoken(country, random):
    name = random.choice(facts.SPOKEN.get(country, [country]))
    return name.lower() if random.random() < 0.5 else name


def capital_answer(country):
    return f"The capital of {country} is {facts.CAPITALS[country]}."


def capital_question(random, country=None, patterns=None):
    country = country or random.choice(list(facts.CAPITALS))
    city = facts.CAPITALS[country]
    if patterns is None:
        patterns = CAPITAL_TRAIN if random.random() < 0.75 else CITY_TRAIN
    pattern = random.choice(patterns)
    marks = [city] if "{@}" in pattern else [country.removeprefix("the ")]
    town = city.lower() if random.random() < 0.5 else city
    text = pattern.replace("{@}", spoken(country, random)).replace("{#}", town)
    return Question("capital", "a capital", noise(expand(text, random), random),
                    capital_answer(country), marks)


def arithmetic_question(random, patterns=None):
    if random.random() < 0.08:
        a, b = numbers.large(random)
        text = random.choice(LARGE_TRAIN).replace("{@}", str(a)).replace("{#}", str(b))
        return Question("arithmetic", "large numbers", noise(expand(text, random), random),
                        numbers.TOO_LARGE, ["up to 20"])
    if patterns is None and random.random() < 0.3:
        return several_sums(random)
    a, sign, b = numbers.problem(random)
    pattern = random.choice((patterns or {s: split(p)[0] for s, p in numbers.ASK.items()})[sign])
    words = random.random() < 0.35
    text = pattern.replace("{@}", numbers.spell(a, words)).replace("{#}", numbers.spell(b, words))
    result = numbers.compute(a, sign, b)
    return Question("arithmetic", "numbers", noise(expand(text, random), random, hard=False),
                    f"{a} {sign} {b} = {result}.", [f"= {result}."])


def several_sums(random):
    """A few problems in one question: the tables are learned several lines at a time."""
    problems = [numbers.problem(random) for _ in range(random.randint(2, 5))]
    asked = [f"{a} {sign} {b}" if random.random() < 0.8 else f"{a}{sign}{b}" for a, sign, b in problems]
    text = random.choice(["calculate {@}", "{@}", "what is {@}?", "compute {@}", "what are {@}?", "solve {@}"])
    text = text.replace("{@}", random.choice([", ", "; ", " and "]).join(asked))
    answer = " ".join(f"{a} {sign} {b} = {numbers.compute(a, sign, b)}." for a, sign, b in problems)
    return Question("arithmetic", "numbers", noise(text, random, hard=False), answer, [answer])


def unknown_question(random):
    text = unknown.fill(expand(random.choice(UNKNOWN_TRAIN), random), random)
    return Question("unknown", "something unknown", noise(text, random),
                    unknown.ANSWER, unknown.MARKS)


MAKERS = {"help": help_question, "talk": talk_question, "fact": fact_question,
          "capital": capital_question, "arithmetic": arithmetic_question,
          "unknown": unknown_question}


def question(random):
    kind = random.choices(list(MIXTURE), list(MIXTURE.values()))[0]
    return MAKERS[kind](random)


def follow_up(random):
    """Two turns of which the second leans on the first."""
    countries = random.sample(list(facts.CAPITALS), 2)
    first = capital_question(random, countries[0], CAPITAL_TRAIN)
    text = random.choice(["and of {@}?", "and {@}?", "what about {@}?", "and the one of {@}?",
                          "now {@}", "how about {@}?", "and for {@}?"])
    text = noise(text.replace("{@}", spoken(countries[1], random)), random)
    second = Question("capital", "a capital", text, capital_answer(countries[1]),
                      [facts.CAPITALS[countries[1]]])
    return [first, second]


def thought(q):
    """The short reasoning of a dialogue with thinking."""
    return f"The question is about {q.topic}."


def dialogue(random):
    """(messages, think): the last message is the answer to learn."""
    roll = random.random()
    if roll < 0.02:
        turns = follow_up(random)
    elif roll < 0.10:
        turns = [question(random), question(random)]
    elif roll < 0.12:
        turns = [question(random) for _ in range(3)]
    else:
        turns = [question(random)]
    messages = []
    if random.random() < 0.15:
        some = random.sample(SYSTEM, 2 if random.random() < 0.2 else 1)
        messages.append({"role": "system", "content": " ".join(some)})
    for turn in turns:
        messages.append({"role": "user", "content": turn.text})
        messages.append({"role": "assistant", "content": turn.answer})
    think = thought(turns[-1]) if random.random() < 0.12 else ""
    return messages, think


def held_out(random):
    """Questions in wordings that `question` can never produce."""
    found = []

    def add(*values):
        found.append(Question(*values))

    for topic, answer, marks, do, what, ask in help.HELP:
        do, held_do = split(do)
        what, held_ask = split(what)[0], split(ask)[1]
        for phrase in random.sample(held_do, min(2, len(held_do))):
            add("help", topic, framed(random.choice(DO_TRAIN[:16]), phrase, random), answer, marks)
        if do:
            text = framed(random.choice(DO_HELD), random.choice(do), random)
            add("help", topic, text, answer, marks)
        if what:
            text = framed(random.choice(WHAT_HELD), random.choice(what), random)
            add("help", topic, text, answer, marks)
        for pattern in random.sample(held_ask, min(2, len(held_ask))):
            add("help", topic, expand(pattern, random), answer, marks)
    for topic, answer, marks, ask in talk.TALK:
        for pattern in split(ask)[1]:
            add("talk", topic, expand(pattern, random), answer, marks)
    for answer, marks, ask in facts.FACTS:
        for pattern in split(ask)[1][:2]:
            add("fact", "a plain fact", expand(pattern, random), answer, marks)
    for country in facts.CAPITALS:
        found.append(capital_question(random, country, CAPITAL_HELD))
        if random.random() < 0.3:
            found.append(capital_question(random, country, CITY_HELD))
    held = {sign: split(patterns)[1] for sign, patterns in numbers.ASK.items()}
    while sum(q.category == "arithmetic" for q in found) < 80:
        q = arithmetic_question(random, held)
        if q.topic == "numbers":
            found.append(q)
    for pattern in LARGE_HELD * 3:
        a, b = numbers.large(random)
        add("arithmetic", "large numbers",
            pattern.replace("{@}", str(a)).replace("{#}", str(b)), numbers.TOO_LARGE, ["up to 20"])
    for pattern in UNKNOWN_HELD * 3:
        add("unknown", "something unknown",
            unknown.fill(expand(pattern, random), random, held=True), unknown.ANSWER, unknown.MARKS)
    return found
