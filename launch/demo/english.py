"""Words and plots of the English stories. Written for this project; see make_text.py."""

# A name, its pronouns, and what the child or animal is.
_PEOPLE = (
    "|she|her|hers|kind",
    """Mina / she / her / her / girl|Tom / he / him / his / boy|Anna / she / her / her / girl
    Leo / he / him / his / boy|Ruby / she / her / her / girl|Sam / he / him / his / boy
    Nora / she / her / her / girl|Pip / he / him / his / fox|Dot / she / her / her / mouse
    Max / he / him / his / dog|Luna / she / her / her / cat|Bruno / he / him / his / bear
    Poppy / she / her / her / rabbit|Otto / he / him / his / duck|Hazel / she / her / her / owl
    Finn / he / him / his / goat|Ivy / she / her / her / turtle|Hugo / he / him / his / hedgehog
    Daisy / she / her / her / pony|Rex / he / him / his / squirrel""",
)

WORDS = {
    "hero": _PEOPLE,
    "friend": _PEOPLE,
    "place": (
        "|to|at",
        """the forest / into the forest / in the forest
        the river / to the river / by the river
        the hill / up the hill / on the hill|the market / to the market / at the market
        the garden / into the garden / in the garden|the beach / to the beach / on the beach
        the village / to the village / in the village|the library / to the library / in the library
        the old bridge / to the old bridge / under the old bridge
        the farm / to the farm / at the farm
        the meadow / to the meadow / in the meadow|the pond / to the pond / beside the pond
        the park / to the park / in the park|the bakery / to the bakery / near the bakery
        the school / to school / behind the school|the mountain / up the mountain / on the mountain
        the kitchen / to the kitchen / in the kitchen
        the big tree / to the big tree / under the big tree
        """,
    ),
    "thing": """kite|ball|hat|umbrella|book|key|bag|bell|doll|scarf|drum|flute|lantern|box|cup
        clock|letter|map|picture|ring|basket|blanket|button|pencil""",
    "color": "red|blue|yellow|white|black|green|purple|orange|pink|brown|silver|golden",
    "size": "small|big|round|old|new|pretty|lovely|little|heavy|shiny",
    "food": """apples|bread|warm soup|rice|honey|cheese|pears|cookies|carrots|berries|noodles
        rice cakes|potatoes|oranges|nuts|pancakes|tomatoes|plums""",
    "count": "two|three|four|five|six|seven|eight|nine|ten",
    "action": (
        "past|do",
        """sang a song / sing a song|played ball / play ball|drew pictures / draw pictures
        read a book / read a book|danced in a circle / dance|flew a kite / fly a kite
        looked at the flowers / look at the flowers|counted the clouds / count the clouds
        caught a fish / catch a fish|planted a tree / plant a tree
        built a little house / build a little house|ran a race / run a race
        told stories / tell stories|collected stones / collect stones|baked bread / bake bread
        climbed a tree / climb a tree|swam / swim|played hide and seek / play hide and seek
        listened to the birds / listen to the birds|made a paper boat / make a paper boat""",
    ),
    "skill": """ride a bicycle|swim|whistle|write letters|play the drum|bake bread|jump rope|skate
        tie a ribbon|count to one hundred|fly a kite|play the flute|read a map|catch a ball""",
    "when": """One morning|One evening|One spring day|One summer day|One autumn day|One winter day
        On Sunday|On Saturday afternoon|After school|Early in the morning|After lunch|Yesterday""",
    "weather": """The sun was shining brightly.|A cold wind was blowing.|It was snowing softly.
        It was raining a little.|The sky was clear and blue.|There were white clouds in the sky.
        The air smelled of flowers.|The leaves were falling.|The birds were singing.
        It was very warm.
        """,
    "glad": "happy|glad|proud|cheerful|very happy|full of joy|pleased",
    "sad": "sad|worried|lonely|tired|sick|afraid",
    "elder": "mother|father|grandmother|grandfather|teacher|aunt|uncle",
    "animal": "bird|puppy|kitten|frog|butterfly|lamb|chick|squirrel|hen",
}

# A plot is a list of beats; one of each beat's sentences is told.
PLOTS = {
    "lost": [
        ["{hero} had {color:a} {thing}.", "{hero} the {hero.kind} had {size:a} {color} {thing}."],
        ["{hero.she:^} liked it very much.", "It was a present from {hero.hers} {elder}.", ""],
        ["{when}, the {thing} was gone.", "{when}, {hero} could not find the {thing}."],
        ['"Where is my {thing}?" {hero.she} asked.', "{hero} looked everywhere and felt {sad}."],
        [
            '{friend} came and said, "Let\'s look for it together."',
            "{friend} the {friend.kind} wanted to help.",
            '"I saw {color:a} {thing} {place.at}," said {friend}.',
        ],
        ["They went {place.to}.", "They walked {place.to} and looked under the leaves."],
        ["The {thing} was lying {place.at}.", "{place.at:^}, {friend} found the {thing}."],
        ["{hero} was {glad} again.", '"Thank you, {friend}!" said {hero}.'],
        ["", "From that day on, {hero} took good care of the {thing}."],
    ],
    "visit": [
        ["{when}, {hero} went {place.to}.", "{when}, {hero} the {hero.kind} walked {place.to}."],
        ["{weather}", "{weather}", ""],
        [
            "{hero.she:^} met {friend} there.",
            "{friend} was already {place.at}.",
            "There {hero.she} saw {friend} the {friend.kind}.",
        ],
        [
            '"Do you want to {action.do}?" asked {friend}.',
            '"Let\'s {action.do}!" said {hero}.',
            "{hero} wanted to {action.do}.",
        ],
        [
            "So they {action.past}.",
            "The two friends {action.past}.",
            "They {action.past} together.",
        ],
        ["Then they {action2.past}.", "After that, they {action2.past} too.", ""],
        ["Soon it was dark.", "They ate some {food} and rested.", "{weather2}", ""],
        ["{hero} went home and was {glad}.", '"See you tomorrow," said {friend}.'],
    ],
    "share": [
        ["{hero} had some {food}.", "{when}, {hero} made some {food} with {hero.hers} {elder}."],
        [
            "{friend} was sitting {place.at}.",
            "{place.at:^}, {hero} met {friend} the {friend.kind}.",
        ],
        ["{friend} was hungry.", '"I am so hungry," said {friend}.'],
        [
            "{hero} gave {friend.her} half of the {food}.",
            '"Please eat some {food} with me," said {hero}.',
        ],
        ["They sat down and ate together.", "The {food} tasted very good.", ""],
        [
            "The next day {friend} brought {count} {animal.many} made of paper.",
            "The next day {friend} gave {hero} {color:a} {thing}.",
            "The next day {friend} came back with some {food2}.",
        ],
        ["Both of them were {glad}.", "Food tastes better when you share it, thought {hero}."],
    ],
    "rain": [
        [
            "{when}, {hero} and {friend} were playing {place.at}.",
            "{hero} and {friend} {action.past}.",
        ],
        [
            "Suddenly it began to rain.",
            "All at once the sky grew dark.",
            "Big drops fell on the grass.",
        ],
        ['"We are getting wet!" said {friend}.', "{friend} had no umbrella and felt {sad}."],
        [
            "They ran under a big tree.",
            "They hid under {size:a} {color} umbrella.",
            "{hero} opened {hero.hers} {color} umbrella.",
        ],
        ["A wet {animal} was there too.", "They listened to the rain.", "They {action2.past}."],
        ["After a while the rain stopped.", "Then the sun came out again."],
        ["A rainbow stood over {place}.", "The whole world looked new.", "{weather}"],
        ["{hero} was {glad}.", '"How beautiful!" said {friend}.', "They walked home hand in hand."],
    ],
    "care": [
        ["{friend} was {sad}.", "{when}, {friend} did not come to {action.do}."],
        ["{hero} heard about it from {hero.hers} {elder}.", "{hero} wanted to help {friend.her}."],
        [
            "{hero.she:^} cooked some {food} and went to see {friend.her}.",
            "{hero.she:^} put some {food} and {color:a} {thing} into a basket.",
        ],
        ["{weather}", "The way was long, but {hero} did not stop.", ""],
        ['"Are you all right?" asked {hero}.', '"I brought you some {food}," said {hero}.'],
        ["{friend} ate the {food} slowly.", "{friend} smiled for the first time that day."],
        ["They {action.past} together.", "{hero} told {friend.her} about {size:a} {animal}.", ""],
        ["Soon {friend} felt better.", "{friend} was not {sad} any more.", "{friend} was {glad}."],
    ],
    "learn": [
        ["{hero} could not {skill}.", "{hero} the {hero.kind} wanted to learn to {skill}."],
        ['"It is too hard," {hero.she} said.', "{friend} could {skill} very well.", ""],
        [
            '{hero.hers:^} {elder} said, "Let\'s try it again."',
            '"You only need time," said {friend}.',
            "{friend} showed {hero.her} how to do it.",
        ],
        ["{hero} practiced {place.at} every day.", "{hero.she:^} tried it {count} times a day."],
        ["Sometimes {hero.she} felt {sad}.", "At first it did not go well.", ""],
        ["But {hero.she} did not give up.", "Day by day it became easier."],
        ["{when}, {hero} could {skill} all alone.", "After {count} days {hero.she} could {skill}."],
        ["{hero} was {glad}.", "Everyone {place.at} clapped.", '"Well done!" said {friend}.'],
    ],
    "night": [
        ["{hero} could not sleep.", "It was night, and {hero} was still awake."],
        [
            "The moon was round and bright.",
            "Many stars were in the sky.",
            "It was quiet {place.at}.",
        ],
        ["{hero.she:^} counted {count} stars.", "{hero.she:^} thought of {friend}.", ""],
        [
            "{hero.hers:^} {elder} came and told {hero.her} a story about {size:a} {animal}.",
            "{hero.hers:^} {elder} told a story. The {animal} in it wanted to see the sea.",
            "{hero.hers:^} {elder} sang a soft song.",
        ],
        ["Slowly {hero.hers} eyes closed.", "Soon {hero} was sleeping."],
        ["In {hero.hers} dream {hero.she} and {friend} {action.past}.", "Good night, {hero}."],
    ],
    "market": [
        ["{when}, {hero} went to the market with {hero.hers} {elder}."],
        ["The market was full of people.", "{weather}", ""],
        ["They bought some {food} and {count} eggs.", "First they bought some {food}."],
        ["Then {hero} saw {color:a} {thing}.", "Then they saw {count} {animal.many}.", ""],
        [
            '"May I have some {food2}?" asked {hero}.',
            '"What do you want to eat?" asked {hero.hers} {elder}.',
        ],
        ["{friend} was there too and said hello.", "On the way home they met {friend}.", ""],
        ["At home they cooked the {food}.", "At home {hero} put the {food} on the table."],
        ["The meal was good, and everyone was {glad}.", "{hero} ate {count} pieces of bread."],
    ],
    "birthday": [
        ["It was {friend.possessive} birthday.", "{when}, {friend} had a birthday."],
        [
            "{hero} wanted to give {friend.her} a present.",
            "What would {friend} like? thought {hero}.",
        ],
        [
            "{hero.she:^} made {size:a} {color} {thing}.",
            "{hero.she:^} found {color:a} {thing} {place.at}.",
        ],
        ["{hero.she:^} put it into a box.", "It took {count} days.", ""],
        ["All the friends came and ate some {food}.", "They {action.past} and ate some {food}."],
        ['"This is for you," said {hero}.', "{friend} opened the box."],
        ['"What {size:a} {thing}! Thank you!" said {friend}.', "{friend} was {glad}."],
        ["They {action2.past} until the evening.", "It was a wonderful day.", ""],
    ],
    "animal": [
        [
            "{when}, {hero} found {size:a} {animal} {place.at}.",
            "{place.at:^} there was {size:a} {animal}.",
        ],
        ["It could not find its mother.", "It looked {sad}.", "It was cold and hungry."],
        ["{hero} gave it some water and some {food}.", "{hero} wrapped it in a {color} scarf."],
        ["{friend} asked everyone {place.at}.", "{hero} and {friend} looked for its mother.", ""],
        ["They walked for {count} hours.", "They asked {count} {animal2.many} on the way.", ""],
        ["At last they heard its mother calling.", "Its mother was waiting {place2.at}."],
        ["The {animal} ran to its mother.", "The little {animal} was {glad}."],
        ["{hero} waved for a long time.", "{friend} and {hero} went home and {action.past}."],
    ],
}
