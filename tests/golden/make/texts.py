"""Text written for these fixtures: the tokenizer training corpus and the test prompts."""

import random

SUBJECTS = [
    "a red fox",
    "the old sailor",
    "two children",
    "a tiny robot",
    "the brass kettle",
    "a paper boat",
    "my neighbour's dog",
    "a young dancer",
    "the lighthouse keeper",
    "a flock of geese",
    "an astronaut",
    "the baker",
    "a grey cat",
    "a glass marble",
    "three cyclists",
    "a wooden puppet",
    "the night train",
    "a green parrot",
    "an elderly painter",
    "the river otter",
    "a carousel horse",
    "a mountain goat",
    "the street musician",
    "a snow leopard",
    "a sunflower",
    "the clockmaker",
]
VERBS = [
    "walks slowly",
    "runs quickly",
    "is looking",
    "stands quietly",
    "jumps",
    "turns around",
    "is floating",
    "smiles",
    "drifts",
    "leans forward",
    "spins",
    "waves",
    "is painting",
    "climbs",
    "disappears",
    "glides",
    "whispers something",
    "opens a book",
    "carries a lantern",
    "rolls",
    "sings",
    "waits patiently",
    "is dancing",
    "falls asleep",
    "rises gently",
]
PLACES = [
    "across the frozen lake",
    "under a stone bridge",
    "in a crowded market",
    "near the harbour at dawn",
    "on a rooftop garden",
    "through the autumn forest",
    "beside an empty swimming pool",
    "inside a dusty workshop",
    "along the railway platform",
    "over rolling green hills",
    "between tall library shelves",
    "in front of a neon sign",
    "at the edge of a volcano",
    "behind a velvet curtain",
    "on the deck of a ship",
    "in the kitchen",
    "above the clouds",
    "around a campfire",
]
STYLES = [
    "The camera pans from left to right.",
    "Soft morning light fills the scene.",
    "Shot on 35mm film, shallow depth of field.",
    "Highly detailed, cinematic, slow motion.",
    "Black and white animation in an old cartoon style.",
    "The background remains static, with gentle movements.",
    "Close-up view; warm colours, blurred background.",
    "A drone shot reveals the whole valley!",
    "Raindrops run down the window.",
    "Dust particles glow in the sunbeam.",
    "It is 7:45 in the evening, and the street lamps are on.",
    "Wind moves the tall grass in waves.",
    "Reflections shimmer on the water's surface.",
    "Everything is quiet, except for distant thunder.",
    "Smoke curls upward (very slowly) from the chimney.",
    "Time-lapse of 120 minutes, 24 frames per second.",
]
EXTRA = [
    "What happens next? Nobody knows.",
    "“Hello,” she said — and the door closed.",
    "Café crème, naïve façade, jalapeño, Übergröße, smörgåsbord.",
    "The quick brown fox jumps over the lazy dog; 0123456789.",
    "He didn't, couldn't, wouldn't, and shouldn't have.",
    "A cost of $15.99 (about 12% less) & more @ the corner #3.",
    "北京的冬天很冷。猫坐在窗边。",
    "東京の夜、雨が降る。",
    "Анна смотрит на реку.",
    "α β γ δ; 3 × 4 = 12; 5 ÷ 2 ≈ 2.5",
    "élan vital, crème brûlée, São Paulo, Kraków, Zürich",
    "foreground midground background composition lighting texture",
    "MOUSE, COW, SHIP, WHEEL, BELL",
    "style_of_fox sks token v1.5-beta/2",
    "http colon slash slash example dot org",
    "[brackets] {braces} <angles> ~tilde~ ^caret^ `tick` \\ | + = _ *",
]

WORDS = """afternoon airplane amber anchor ancient apple archway balloon bamboo basket beacon beetle bicycle blossom bottle bouquet breeze
bronze bubble butterfly cabin candle canyon castle cavern ceiling cherry chimney circle cliff cobblestone compass copper coral corridor
cottage cotton courtyard crystal curious daisy desert diamond dolphin dragon driftwood eagle earthquake elephant emerald engine evening
faint feather ferry festival fiddle firefly flame fountain fragile galaxy garden giant ginger glacier golden gravel guitar hammer harvest
hedgehog helicopter hollow honey horizon hummingbird hurricane iceberg island ivory jacket jasmine jellyfish journey jungle kangaroo kettle
kingdom ladder lagoon lavender lemon library lizard lobster machine magnet mailbox maple marble meadow meteor midnight mirror monkey
mosaic mushroom needle nightingale notebook oasis ocean orchard orchestra owl oyster pajamas panther parade pebble pelican penguin pepper
picnic pillow pinecone planet polar porcelain prairie pumpkin puzzle pyramid rabbit raccoon rainbow raven ribbon rocket sailboat salmon
sandcastle satellite scarecrow scooter seashell shadow shepherd shimmer silver skeleton skyline sleepy snowflake spiral squirrel staircase
statue strawberry submarine sunset tangerine telescope temple thistle thunderstorm tiger tortoise tractor treasure tropical trumpet tulip
tunnel turquoise umbrella universe valley vanilla velvet village vineyard violin volcano wagon walrus waterfall whale whistle windmill
winter wizard wombat yellow zebra zeppelin""".split()


def corpus(seed):
    rng = random.Random(seed)
    lines = list(EXTRA) * 4 + STYLES * 3
    for _ in range(1400):
        s = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(PLACES)}."
        if rng.random() < 0.5:
            s = s[0].upper() + s[1:]
        if rng.random() < 0.5:
            s += " " + rng.choice(STYLES)
        if rng.random() < 0.15:
            s = s.replace(" ", "  ", 1)
        if rng.random() < 0.1:
            s = s.upper()
        lines.append(s)
    for _ in range(900):
        lines.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 5))) + rng.choice([".", ",", "!", ""]))
    rng.shuffle(lines)
    return lines


def prompts(seed):
    rng = random.Random(f"{seed}-prompts")
    mk = lambda n: " ".join(
        f"{rng.choice(SUBJECTS).capitalize()} {rng.choice(VERBS)} {rng.choice(PLACES)}. {rng.choice(STYLES)}"
        for _ in range(n)
    )
    fixed = [
        "",
        " ",
        "a",
        "A",
        ".",
        "...",
        "?!",
        "a  b",
        "a b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        " leading",
        "trailing ",
        "  both   sides  ",
        "\t\n",
        "tab\tand\nnewline  double",
        "café",
        "cafe\u0301",
        "naïve façade",
        "ÀÉÎÕÜ ñ ß ø å",
        "ﬁne ﬂour ﬃ",
        "①②③ ½ ⅓ x² H₂O",
        "ＦＵＬＬ　ｗｉｄｔｈ",
        "… “quotes” ‘single’ – — dashes",
        "北京的冬天",
        "東京の夜、雨が降る。",
        "ｶﾀｶﾅ ガ ガ",
        "한국어 문장",
        "한국어",
        "Привет, Анна",
        "مرحبا بالعالم",
        "नमस्ते",
        "שלום",
        "🙂",
        "a 🦊 runs 🏃‍♀️ fast",
        "👨‍👩‍👧‍👦 family",
        "🇩🇪 flag",
        "zero\u200bwidth",
        "no\u00a0break",
        "soft\u00adhyphen",
        "bom\ufeffhere",
        "bell\u0007del\u007f",
        "ideographic\u3000space",
        "▁ lower block ▁▁",
        "a▁b",
        "</s>",
        "<pad>",
        "<unk>",
        "<extra_id_0>",
        "<extra_id_99>",
        "<extra_id_100>",
        "before</s>after",
        "before </s> after",
        "x<extra_id_5>y",
        " <extra_id_1> ",
        "<s>",
        "</S>",
        "< /s>",
        "sks fox",
        "sks, a red fox",
        "DISNEY A black and white",
        "[V] a grey cat",
        "<my-token> a grey cat",
        "0123456789",
        "3.14159e-10",
        "a-b_c/d\\e|f",
        "don't can't won't",
        "A" * 40,
        "ab" * 60,
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "The quick brown fox jumps over the lazy dog.",
        "UPPER lower MiXeD",
        "word" * 30,
        "e\u0301\u0323 stacked",
        "～ wave ~ tilde",
        "㍿ ㎏ ℃ №",
    ]
    return fixed + [mk(1) for _ in range(8)] + [mk(3), mk(12), mk(40)]


def plain(seed, n):
    rng = random.Random(f"{seed}-plain")
    return [
        f"{rng.choice(SUBJECTS).capitalize()} {rng.choice(VERBS)} {rng.choice(PLACES)}. {rng.choice(STYLES)}"
        for _ in range(n)
    ]
