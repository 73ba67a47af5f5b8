"""Plain documents made of word lists, and what is planted in some of them."""

import random

KOREAN = (
    "오늘 내일 아침 저녁 서울 부산 학교 도서관 친구 선생님 할머니 아이들 강아지 고양이 나무 바다 "
    "하늘 구름 비 눈 여름 겨울 음식 김치 커피 영화 음악 소설 신문 기차 버스 자전거 길 집 마당 창문 "
    "이야기 생각 마음 시간 정부 경제 회사 시장 가격 연구 결과 문제 방법 사람들"
).split()
VERBS = (
    "갔다 왔다 보았다 읽었다 먹었다 좋아한다 기다렸다 시작했다 끝났다 만났다 걸었다 웃었다 배웠다 "
    "만들었다 생각했다 말했다 찾았다 보냈다 올랐다 내렸다"
).split()
ENGLISH = (
    "the a small old quiet river house garden teacher friend morning evening window letter music "
    "walked found wrote remembers likes follows across under before after because while people "
    "market price result question answer computer language model train data city road winter"
).split()
CODE = (
    "for i in range(10):\n    total += values[i]",
    "if a < b and c > d:\n    return x[i](y)",
    "std::vector<int> v; std::map<std::string, List<T>> m;",
    "def f(a: dict[str, int]) -> bool:\n    return a[k] == b[[0, 1]]  # [1] and (2)",
    "x = {{1, 2}, {3, 4}}; y = &z; if (p && q) { r = s << 3; }",
    "<user@host> wrote: 3 < 5 and 7 > 2, I <3 it",
    "version 1.2.3, 2020-01-02 12:34:56, pages 10-20, 1,234,567 won, ISBN 978-89-01-23456-7",
)


def sentence(rng: random.Random, language: str) -> str:
    if language == "ko":
        words = rng.choices(KOREAN, k=rng.randint(3, 8))
        return " ".join([*words, rng.choice(VERBS)]) + rng.choice([".", ".", "!", "?", "..."])
    words = rng.choices(ENGLISH, k=rng.randint(4, 12))
    return " ".join(words).capitalize() + rng.choice([".", ".", "!", "?"])


def document(rng: random.Random) -> str:
    """Plain text of one to six paragraphs: Korean, English, both, or with code."""
    kind = rng.choice(["ko", "ko", "en", "mixed", "code"])
    paragraphs = []
    for _ in range(rng.randint(1, 6)):
        language = rng.choice(["ko", "en"]) if kind in ("mixed", "code") else kind
        paragraphs.append(" ".join(sentence(rng, language) for _ in range(rng.randint(1, 5))))
        if kind == "code":
            paragraphs.append(rng.choice(CODE))
    return rng.choice(["\n", "\n\n"]).join(paragraphs)


def documents(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [document(rng) for _ in range(count)]


def insert(rng: random.Random, text: str, planted: str) -> str:
    """Puts something between two words of a text."""
    places = [i for i, c in enumerate(text) if c == " " and text[i - 1] not in " \n"]
    place = rng.choice(places)
    return f"{text[:place]} {planted}{text[place:]}"


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def email(rng: random.Random) -> str:
    name = rng.choice(["kim", "lee.minsu", "park_99", "hong-gd", "j+news"]) + digits(rng, 2)
    host = rng.choice(["naver.com", "gmail.com", "snu.ac.kr", "daum.net", "mail.co.kr", "a-b.org"])
    return f"{name}@{host}"


def phone(rng: random.Random) -> str:
    gap = rng.choice(["-", ".", " ", ") ", " - "])
    middle, last = digits(rng, 4), digits(rng, 4)
    form = rng.randrange(6)
    if form == 0:
        return f"010{rng.randint(2, 9)}{middle[1:]}{last}"
    if form == 1:
        return f"+82-{rng.choice(['10', '2', '31'])}-{middle}-{last}"
    if form == 2:
        return f"{rng.choice(['02', '031', '051', '064', '070'])}{gap}{middle[1:]}-{last}"
    if form == 3:
        return f"고객센터 {rng.choice(['1588', '1577', '1600', '1899'])}-{last}"
    if form == 4:
        return f"({rng.choice(['02', '042'])}) {middle}-{last}"
    sign = gap if gap.strip() != ")" else "-"
    return f"{rng.choice(['010', '011', '019'])}{sign}{middle}{sign}{last}"


def resident(rng: random.Random, generations: str = "1234") -> str:
    birth = f"{rng.randint(0, 99):02}{rng.randint(1, 12):02}{rng.randint(1, 28):02}"
    return f"{birth}{rng.choice(['-', '-', ' - '])}{rng.choice(generations)}{digits(rng, 6)}"


def mojibake(rng: random.Random, text: str) -> str:
    """A text as it is after its bytes were read in another encoding."""
    written, read = rng.choice([("utf-8", "latin-1"), ("cp949", "latin-1"), ("cp949", "cp1252")])
    try:
        return text.encode(written).decode(read)
    except UnicodeError:
        return text.encode("cp949").decode("latin-1")


def html(rng: random.Random, text: str) -> str:
    """A text of one paragraph with markup that shows nothing: the plain text is what is left."""
    words = text.split(" ")
    place = rng.randrange(len(words))
    word = words[place]
    forms = [
        f"<b>{word}</b>",
        f'<a href="http://example.com/?a=1&amp;b={place}" target=_blank>{word}</a>',
        f"<span class='x' style=\"color: red\">{word}</span>",
        f"<FONT COLOR=#ff0000>{word}</FONT>",
        f"{word}<!-- a comment -->",
        f"<script type='text/javascript'>if (a < b) {{ f(); }}</script>{word}",
        f"&lt;em&gt;{word}&lt;/em&gt;",
        f"[b]{word}[/b]",
        f"[url=http://example.com][color=red]{word}[/color][/url]",
        f"[[문서|{word}]]",
        f"{{{{틀|이름={place}}}}}{word}",
        f"[{word}](https://example.com/a_({place}))",
    ]
    words[place] = rng.choice(forms)
    return " ".join(words)
