"""Arithmetic with small numbers, in digits and in words.

Sums and differences of 0..20, products of 0..12. `~` marks wordings held out of training.
"""

WORDS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
         "fifteen sixteen seventeen eighteen nineteen twenty").split()

ASK = {
    "+": ["{what is|what's|whats|how much is|calculate|compute|} {@} {+|plus} {#}{|?}", "{@}+{#}", "{@} + {#} ={| ?}", "{@} and {#} {is|make|makes|are} {how much|what}?",
          "{what is|what's} the sum of {@} and {#}?", "add {@} {and|to} {#}", "sum of {@} and {#}", "what do you get {if|when} you add {@} and {#}?", "can you add {@} {and|to} {#}?",
          "{what|how much} {is|are|does} {@} plus {#}{| equal| make}?", "how much is {@} and {#}?", "what does {@} {+|plus} {#} {equal|make|give}?", "tell me {@} {+|plus} {#}", "{what is|solve|} {@}+{#}{|=|?}",
          "please add {@} and {#}", "{@} plus {#} equals", "{@} plus {#} is", "{if i have|i have|i've got|there are|she has|he has} {@} {apples|eggs|books|euros|dogs|pens|cookies|cards|oranges|balls|dollars|cars|sweets|toys|stones|cakes} and {get|buy|add|receive|take} {#} more{, how many| how many|. how many} {apples|eggs|books|euros|dogs|pens|cookies|cards|oranges|balls|dollars|cars|sweets|toys|stones|cakes|} {do i have|are there|is that|do i have then|have i got|in total}?", "{@} added to {#}", "what is {@} added to {#}?", "the sum of {@} and {#}", "do you know {@} plus {#}?",
          "~what would {@} plus {#} be?", "give me the sum of {@} and {#}", "what is the result of {@} + {#}?", "please work out {@} plus {#}", "i have {@} coins and find {#} more, how many coins now?", "{@} plus {#}, please"],
    "-": ["{what is|what's|whats|how much is|calculate|compute|} {@} {-|minus} {#}{|?}", "{@}-{#}", "{@} - {#} ={| ?}", "{what is|what's} the difference {of|between} {@} and {#}?", "subtract {#} from {@}", "difference of {@} and {#}",
          "what do you get {if|when} you subtract {#} from {@}?", "can you subtract {#} from {@}?", "{what|how much} {is|does} {@} minus {#}{| equal| make}?", "what does {@} {-|minus} {#} {equal|make|give}?", "tell me {@} {-|minus} {#}",
          "{what is|solve|} {@}-{#}{|=|?}", "take {#} {away|} from {@}", "{@} minus {#} equals", "{@} minus {#} is", "{@} less {#}", "{@} take away {#}", "{if i have|i have|i've got|there are|she has|he has} {@} {apples|eggs|books|euros|dogs|pens|cookies|cards|oranges|balls|dollars|cars|sweets|toys|stones|cakes} and {give away|eat|sell|remove|drop|take away|use} {#}{, how many| how many|. how many} {apples|eggs|books|euros|dogs|pens|cookies|cards|oranges|balls|dollars|cars|sweets|toys|stones|cakes|} {are left|do i have|remain|are there then|do i still have}?", "do you know {@} minus {#}?", "what is {#} subtracted from {@}?",
          "what would {@} minus {#} be?", "give me the difference between {@} and {#}", "~what is the result of {@} - {#}?", "please work out {@} minus {#}", "~i have {@} coins and lose {#}, how many coins are left?", "{@} minus {#}, please"],
    "*": ["{what is|what's|whats|how much is|calculate|compute|} {@} {*|times|x|multiplied by} {#}{|?}", "{@}*{#}", "{@}x{#}", "{@} {*|x} {#} ={| ?}", "{what is|what's} the product of {@} and {#}?", "multiply {@} {and|by|with} {#}", "product of {@} and {#}",
          "what do you get {if|when} you multiply {@} {by|and} {#}?", "can you multiply {@} {and|by} {#}?", "{what|how much} {is|does} {@} times {#}{| equal| make}?", "what does {@} {*|times} {#} {equal|make|give}?", "tell me {@} {*|times} {#}",
          "{what is|solve|} {@}*{#}{|=|?}", "{@} times {#} equals", "{@} times {#} is", "do you know {@} times {#}?",
          "what would {@} times {#} be?", "~give me the product of {@} and {#}", "~what is the result of {@} * {#}?", "please work out {@} times {#}", "~{@} times {#}, please"],
}

TOO_LARGE = "I only calculate with small numbers, up to 20."
TOO_LARGE_ASK = ["{what is|how much is|calculate|} {@} {+|plus|-|minus|*|times|x|/|divided by} {#}{|?}", "{@}{+|-|*|/}{#}", "multiply {@} by {#}", "add {@} and {#}", "subtract {#} from {@}",
                 "divide {@} by {#}", "what is the {sum|product|difference} of {@} and {#}?", "{what is|} the square root of {@}{|?}", "{what is|} {@} percent of {#}{|?}", "{what is|} {@} squared{|?}", "{@} to the power of {#}",
                 "~what would {@} plus {#} be?", "~give me the product of {@} and {#}", "please work out {@} times {#}"]


def compute(a, sign, b):
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def problem(random):
    """(a, sign, b): every fact of one sign about equally often, products a little more."""
    sign = random.choice("++--***")
    top = 12 if sign == "*" else 20
    a, b = random.randint(0, top), random.randint(0, top)
    return (max(a, b), sign, min(a, b)) if sign == "-" and random.random() < 0.85 else (a, sign, b)


def large(random):
    """Two numbers of which one at least is beyond the tables."""
    a = random.choice([random.randint(21, 99), random.randint(100, 999), random.randint(1000, 99999)])
    b = random.choice([random.randint(2, 20), random.randint(21, 999)])
    return (a, b) if random.random() < 0.7 else (b, a)


def spell(number, in_words):
    return WORDS[number] if in_words and number <= 20 else str(number)
