"""Questions beyond this model, which it must answer with "I don't know".

`~` marks wordings held out of training, and the HELD lists hold names and things held out.
"""

ANSWER = "I don't know. I know mlxk, small numbers and a few plain facts."
MARKS = ["I don't know"]

COUNTRIES = ("peru chile iceland nigeria kenya thailand vietnam morocco ukraine romania bulgaria croatia serbia estonia latvia lithuania "
             "colombia venezuela bolivia ecuador uruguay paraguay iran iraq israel jordan syria lebanon pakistan bangladesh nepal "
             "mongolia indonesia malaysia singapore philippines ghana ethiopia tanzania uganda zambia angola senegal tunisia algeria libya "
             "sudan somalia madagascar jamaica haiti panama nicaragua honduras guatemala slovenia slovakia albania malta cyprus luxembourg "
             "georgia armenia kazakhstan uzbekistan oman yemen qatar laos cambodia myanmar fiji texas bavaria scotland wales california").split()
PEOPLE = ("einstein|newton|marie curie|napoleon|mozart|beethoven|bach|elvis|madonna|taylor swift|obama|lincoln|george washington|cleopatra|julius caesar|"
          "darwin|picasso|van gogh|leonardo da vinci|michelangelo|gandhi|nelson mandela|steve jobs|bill gates|elon musk|alan turing|ada lovelace|"
          "linus torvalds|the pope|the queen|the president|the president of france|the king of spain|messi|ronaldo|michael jordan|roger federer|harry potter|"
          "sherlock holmes|batman|plato|aristotle|kant|freud|karl marx|galileo|columbus|marco polo|jesus|buddha|my neighbour|tom hanks|brad pitt").split("|")
TOPICS = ("quantum physics|black holes|the french revolution|world war two|the roman empire|dinosaurs|photosynthesis|evolution|relativity|gravity|"
          "the stock market|bitcoin|blockchain|inflation|football|chess|tennis|the olympics|cooking|yoga|philosophy|religion|politics|climate change|"
          "vaccines|the brain|dna|bacteria|viruses|volcanoes|earthquakes|electric cars|airplanes|rockets|the internet|python lists|java|sql|"
          "react|docker|kubernetes|git|html|css|rust|regular expressions|machine learning|neural networks|transformers|attention|jazz|rock music|opera|"
          "painting|movies|netflix|love|happiness|death|the meaning of life|time travel|aliens|ghosts|dragons|money|taxes|mortgages|diets|vitamins|"
          "headaches|cancer|sleep|dogs|cats|horses|birds|fish|trees|roses|coffee|tea|wine|beer|cheese|chocolate|pizza|pasta|bread|london|new york|"
          "the amazon|the sahara|the titanic|the bible|the moon landing|robots|video games|minecraft|star wars|the lord of the rings").split("|")
THINGS = ("a cake|pizza|pancakes|a table|a house|a paper plane|soup|a website|a game|an app|a shelf|a garden|sushi|bread|a car engine|a bike|a computer|"
          "a robot|a guitar|wine|cheese|pasta|a fire|a knot|a shirt|a fish|a campfire|coffee|a snowman|a kite").split("|")
WORKS = ("poem|story|song|essay|letter|email|haiku|speech|novel|python program|function|sql query|script|rap|limerick|report|summary|recipe|"
         "blog post|fairy tale|bash script|cover letter|love letter|sonnet|regex|html page|sorting algorithm|screenplay|tweet").split("|")
WORK_TOPICS = ("autumn|love|the sea|a cat|a dragon|my boss|spring|a robot|the moon|dogs|war|peace|my mother|prime numbers|a princess|the sun|friendship|"
               "rain|winter|a king|sorting a list|reversing a string|the stars|a lost dog|school|christmas|space|time|a river|old age").split("|")
SENTENCES = ("good morning|i love you|how are you|the house is red|where is the station|i am hungry|my name is anna|see you tomorrow|thank you|the cat sleeps|"
             "what time is it|i like cheese|the weather is nice|i don't understand|help me").split("|")
HELD_COUNTRIES = "bhutan botswana paraguay zimbabwe rwanda turkmenistan suriname moldova belarus gambia".split()
HELD_PEOPLE = "rembrandt|shackleton|marilyn monroe|tesla|isaac asimov|johnny cash".split("|")
HELD_TOPICS = "string theory|the cold war|fermentation|origami|supernovas|the aztecs|sailing|haskell".split("|")
COUNTRIES = [c for c in COUNTRIES if c not in HELD_COUNTRIES]

SLOTS = {"COUNTRY": COUNTRIES, "PERSON": PEOPLE, "TOPIC": TOPICS, "THING": THINGS, "WORK": WORKS,
         "ABOUT": WORK_TOPICS, "SENTENCE": SENTENCES, "YEAR": [str(y) for y in range(1900, 2026)]}
HELD_SLOTS = SLOTS | {"COUNTRY": HELD_COUNTRIES, "PERSON": HELD_PEOPLE, "TOPIC": HELD_TOPICS}

ASK = [
    # names of countries outside the list of facts, made-up ones among them (see `name`)
    *["{what is|what's} the capital of COUNTRY?", "capital of COUNTRY", "which city is the capital of COUNTRY?", "what is COUNTRY's capital?", "what is the capital of NAME?", "capital of NAME", "name the capital of COUNTRY", "do you know the capital of COUNTRY?"],
    *["{who is|who was} PERSON?", "who is NAME?", "when was PERSON born?", "how old is PERSON?", "tell me about PERSON", "i want to know {about|more about|who is} PERSON", "what can you {say|explain} about {PERSON|TOPIC}?", "who {exactly|really|the hell|actually} {is|was} PERSON?", "what do you {know|think} {of|about} PERSON?", "i need {information|facts|a text} {on|about} {PERSON|TOPIC|NAME}", "{what|who} is this NAME?", "can you tell me who {PERSON|NAME} {is|was}?", "what did PERSON {do|say|write|invent|paint}?", "where {does|did} PERSON live?", "when did PERSON die?", "is PERSON {alive|dead|married|rich}?", "{who is|who was} NAME NAME?"],
    *["{explain|describe} TOPIC{| to me| briefly| in simple words}", "tell me {about|something about|a story about|more about} TOPIC", "what {is|are} TOPIC?", "how {does|do} TOPIC work?", "what do you {think|know} about TOPIC?", "why {is|are} TOPIC {important|interesting|popular|expensive}?", "who invented TOPIC?", "what is the history of TOPIC?", "give me {tips|advice|facts|a summary|an overview} {about|on|for} TOPIC", "when did TOPIC {start|begin|end}?", "what is the best book about TOPIC?", "is TOPIC {good|bad|hard|dangerous|easy}?", "where can i learn TOPIC?", "TOPIC", "TOPIC?"],
    *["how {do|can} i {make|cook|build|fix|repair|draw|paint|buy|sell|clean} THING?", "how to {make|cook|build|fix|repair|draw|clean} THING", "recipe for THING", "how long does it take to {make|build|cook} THING?", "how much does THING cost?", "what do i need for THING?", "where can i buy THING?", "which THING is the best?"],
    *["{write|write me|compose|create|make} a WORK about ABOUT", "can you write a WORK{| about ABOUT}?", "{write|give me} a WORK", "i need a WORK about ABOUT", "please write a {short|long|nice} WORK about ABOUT", "finish my WORK about ABOUT", "correct my WORK", "improve this WORK"],
    *["translate {SENTENCE|this|hello|the text} {to|into} {german|french|spanish|italian|japanese|latin}", "what is SENTENCE in {german|french|spanish}?", "how do you say SENTENCE in {german|french|spanish|italian|chinese}?", "what does NAME mean?", "what is a NAME?", "what is NAME?", "define NAME", "how do i NAME?", "where is NAME?", "explain NAME", "tell me about NAME"],
    *["who won the {world cup|election|super bowl|olympics|championship|match|nobel prize|oscar|game} {in YEAR|yesterday|last year|last night|}?", "what happened in YEAR?", "what {happened|was in the news} {today|yesterday|last week}?", "who was {president|king|pope} in YEAR?", "what is the price of {gold|bitcoin|oil|bread|apple stock|a house}?", "how much is {a dollar in euro|bitcoin|gold|a ticket|one euro}?", "what is the population of {COUNTRY|paris|berlin|the world|france|germany|japan|china|italy|london}?", "how far is {the moon|the sun|paris|london|berlin|mars}?", "how {high|tall|long|deep|heavy|wide} is {the eiffel tower|the nile|mount everest|the ocean|the moon|an elephant|the amazon|a whale|the sun|a car}?", "how {high|tall} is {the eiffel tower|mount everest}?", "what language do they speak in {COUNTRY|brazil|france|canada|egypt}?", "what is the currency of {COUNTRY|japan|france|egypt|mexico}?"],
    *["should i {buy a house|quit my job|marry|invest in stocks|sell my car|go to the doctor|take aspirin|study law|learn java|eat less|move to spain}?", "what should i {eat|cook|wear|read|watch|buy|study|do} {today|tonight|tomorrow|this weekend|}?", "which {movie|book|car|phone|laptop|restaurant|hotel|city|school|job} {is best|should i choose|do you recommend|is good}?", "recommend a {movie|book|restaurant|song|game|hotel}", "i have {a headache|a fever|a cold|back pain|no money|a problem with my boss|a broken leg|a question about taxes}", "what is the meaning of life?", "does god exist?", "what happens after death?", "will {it be a good year|i be rich|my team win|prices rise|there be war}?", "what is {happiness|love|consciousness|truth|beauty}?", "why is {the sky blue|the sea salty|grass green|the sun hot|water wet|gold expensive|snow white|blood red}?", "why do {cats purr|birds sing|people sleep|we dream|leaves fall|dogs bark}?", "how do {birds|planes|bees} fly?", "how are {mountains|stars|clouds|diamonds} made?"],
    *["what is the {second|third} {largest|highest|biggest|longest|fastest} {city|mountain|river|country|planet|animal|lake}?", "what is the {longest|largest|deepest} {river|lake|desert|bridge|island|city}?", "how many {people live in COUNTRY|stars are there|languages are there|countries are there|islands has COUNTRY|rivers are in france|people are in the world|hairs do i have|cars are in germany|books are there|strings has a guitar|keys has a piano|players has a team|rings has saturn|moons has jupiter}?", "who {wrote|painted|composed|directed|discovered|invented} {faust|the mona lisa|the ninth symphony|star wars|america|the telephone|the light bulb|penicillin|the lord of the rings|moby dick|war and peace|titanic|the wheel|don quixote|the bible|radium}?", "what is the chemical {symbol|formula} of {gold|iron|salt|silver|sugar|oxygen|lead}?", "what {color|colour} is {a frog|my car|the moon|mars|an elephant|a tiger|my shirt|the sea|the flag of france|coffee}?", "where is {the louvre|big ben|the colosseum|mount fuji|machu picchu|my phone|my key|the taj mahal|the statue of liberty|COUNTRY}?", "what is the opposite of {love|black|fast|table|war|happy|north|early}?", "how many legs has {a centipede|a crab|a bird|a snake|a lobster|a table}?", "is {9|nine|51|twelve|100|91} {prime|odd|even|a prime number|odd or even}?", "when was {the french revolution|the moon landing|world war two|the berlin wall built|rome founded|NAME born}?"],
    *["book a {flight|table|hotel|taxi|room}{| for me| to paris| tonight}", "play {music|a song|chess with me|a game|some jazz}", "call my {mother|boss|doctor|friend}", "set {an alarm|a timer|a reminder}{| for ten minutes}", "open {the door|my browser|youtube|the window|my email}", "turn {on|off} the {light|tv|heating|music}", "send {an email|a message} to {anna|my boss|peter}", "search the web for {shoes|news|NAME}", "show me {a picture|a photo|a video} of {a cat|paris|NAME}", "draw {a cat|a house|me a picture}", "order {a pizza|food|a taxi}", "read {my email|the news|this page}", "buy {milk|a ticket}{| for me}", "remember {this|my birthday}", "what is in the news?", "latest news"],
    *["what is the {atomic number|melting point|density} of {gold|iron|lead|carbon}?", "solve {x squared = 4|this equation|2x + 3 = 7|my homework}", "do my homework", "prove {that pi is irrational|fermat's theorem|NAME}", "integrate {x squared|sin x}", "what is the derivative of {x squared|sin x}?", "summarize {this text|the article|the bible|hamlet}", "who is the {president|king|prime minister|ceo|chancellor|mayor} of {COUNTRY|germany|france|apple|google|london|canada|spain}?", "which {team|party|country} {won|is the best|is the richest}?", "what are the rules of {chess|football|poker|go}?", "name {three|five|ten} {rivers|poets|kings|songs|birds|french cities|car brands}", "list the {kings of england|presidents|roman emperors|elements}", "NAME", "NAME NAME?", "what about NAME?", "NAME or NAME?"],
    "give me the name of the capital of COUNTRY", "what's the main city of COUNTRY?", "i would like to know who PERSON was", "please tell me who PERSON is",
    "what can you tell me about TOPIC?", "~give a short introduction to TOPIC", "could you explain TOPIC to a child?", "why does TOPIC matter?",
    "~what are the steps to make THING?", "please help me cook THING", "compose a little WORK on ABOUT", "i'd like you to write a WORK about ABOUT",
    "put SENTENCE into french", "what would SENTENCE be in german?", "in YEAR, who was the winner of the tournament?", "how many people are there in COUNTRY?",
    "is it a good idea to buy stocks now?", "my tooth hurts, what can i do?", "where should i go on holiday?", "can you order me a sandwich?", "please phone my sister",
    "what did the newspaper say this morning?", "~how much money does a teacher earn?", "~what is the third highest mountain?", "for what is TOPIC used?",
]

ONSETS = "b br bl c ch cl d dr f fl g gr h j k kr l m n p pl pr qu r s sh sk st t th tr v w z".split()
VOWELS = "a e i o u ai ea oo ou".split()
CODAS = ["", "", "n", "r", "l", "s", "t", "k", "m", "x", "nd", "rk", "st", "ll"]


def name(random):
    """A made-up word, so that anything unheard of reads as unknown."""
    return "".join(random.choice(ONSETS) + random.choice(VOWELS) + random.choice(CODAS)
                   for _ in range(random.choice([1, 2, 2, 3])))


def fill(pattern, random, held=False):
    """Puts a thing of its kind into every slot."""
    slots = HELD_SLOTS if held else SLOTS
    for slot, things in slots.items():
        while slot in pattern:
            thing = random.choice(things)
            if slot in ("COUNTRY", "PERSON") and random.random() < 0.5:
                thing = thing.title()
            pattern = pattern.replace(slot, thing, 1)
    while "NAME" in pattern:
        pattern = pattern.replace("NAME", name(random), 1)
    return pattern
