"""What the steps find of what was planted in documents, and that they touch nothing else."""

import random

import corpus_examples as made
import pytest
from corpuswide import run
from hypothesis import given, note, settings
from hypothesis import strategies as st

from maxlite.corpus import (
    Boilerplate,
    Corpuswide,
    ExactDuplicates,
    Length,
    Markup,
    Mask,
    NearDuplicates,
    Repair,
    Repetition,
    Script,
    Symbols,
)

pytest.importorskip("ftfy")

COUNT = 3000
CHANGES = (Repair(), Markup(), Boilerplate(), Mask())
LINES = (
    "ⓒ 한국신문, 무단 전재 및 재배포 금지",
    "<저작권자(c) 서울일보. 무단전재-재배포 금지>",
    "Copyright © 2019-2021 Example Times. All rights reserved.",
    "(서울=한국통신) 김철수 기자 = kim@example.co.kr",
    "로그인 | 회원가입 | 고객센터",
    "이전글",
    "공유하기",
    "기사입력 2020-01-02 10:11",
    "We use cookies to give you the best experience.",
    "Privacy Policy · Terms of Use · Contact",
)


def measured(name, planted, found):
    """Precision and recall of the documents that a step changed, by number."""
    right = len(planted & found)
    precision, recall = right / max(len(found), 1), right / len(planted)
    print(f"{name:16} {len(planted)} planted: precision {precision:.4f}, recall {recall:.4f}")
    return precision, recall


@pytest.mark.parametrize(
    "kind", ["mojibake", "markup", "boilerplate", "email", "phone", "resident", "foreigner"]
)
def test_what_is_planted_is_found_and_nothing_else(kind):
    """Recall counts documents that are as they were before planting, or as they should be."""
    rng = random.Random(kind)
    plain = made.documents(COUNT)
    dirty, wanted = list(plain), list(plain)
    planted = set(rng.sample(range(COUNT), COUNT // 5))
    for number in planted:
        text = plain[number]
        if kind == "mojibake":  # of ASCII alone it is none
            text = wanted[number] = made.sentence(rng, "ko") + " " + made.sentence(rng, "ko")
            dirty[number] = made.mojibake(rng, text)
        elif kind == "markup":
            text = wanted[number] = made.sentence(rng, rng.choice(["ko", "en"]))
            dirty[number] = made.html(rng, text)
        elif kind == "boilerplate":
            dirty[number] = "\n".join(
                [rng.choice(LINES), text, *rng.sample(LINES, rng.randint(0, 3))]
            )
        else:
            make, words = {
                "email": (made.email, "[이메일]"),
                "phone": (made.phone, "[전화번호]"),
                "resident": (made.resident, "[주민등록번호]"),
                "foreigner": (lambda rng: made.resident(rng, "5678"), "[외국인등록번호]"),
            }[kind]
            found = make(rng)
            before, _, number_alone = found.rpartition("고객센터 ")
            ending = rng.choice(["", ".", ",", "으로", " "])
            state = rng.getstate()
            dirty[number] = made.insert(rng, text, found + ending)
            rng.setstate(state)
            said = found.removesuffix(number_alone) if before or number_alone != found else ""
            wanted[number] = made.insert(rng, text, said + words + ending)
    step = {"mojibake": Repair(), "markup": Markup(), "boilerplate": Boilerplate()}.get(
        kind, Mask()
    )
    step.check()
    step.open()
    cleaned = [text for text, _ in step.apply(dirty)]
    changed = {number for number in range(COUNT) if cleaned[number] != dirty[number]}
    right = {number for number in changed if cleaned[number] == wanted[number]}
    precision, found_share = measured(f"{kind} changed", planted, changed)
    restored_precision, recall = measured(f"{kind} restored", planted, right)
    assert precision == 1.0 and found_share >= 0.99
    assert restored_precision == 1.0 and recall >= 0.99


WORDS = st.one_of(
    st.sampled_from(made.KOREAN + made.VERBS + made.ENGLISH),
    st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), min_size=1, max_size=6),
    st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"), min_size=1, max_size=8),
    st.integers(0, 9999).map(str),
)
LINE = st.lists(
    st.tuples(WORDS, st.sampled_from(["", "", "", ".", ",", "!", "?", ":", ";", "...", '"', ")"])),
    min_size=3,
    max_size=12,
).map(lambda pairs: " ".join(word + sign for word, sign in pairs))
PLAIN = st.lists(LINE, min_size=1, max_size=6).flatmap(
    lambda lines: st.sampled_from(["\n", "\n\n"]).map(lambda end: end.join(lines))
)


@given(PLAIN)
@settings(max_examples=300, deadline=None)
def test_plain_text_is_not_touched_at_all(text):
    for step in CHANGES:
        assert step.apply([text]) == [(text, "")]


@pytest.mark.parametrize(
    ("step", "most"),
    [
        (Length(), 0.0),
        (Symbols(), 0.02),  # code, and lists of numbers
        (Script(min_share=0.0, max_foreign=0.0, beside="Latin"), 0.0),
        (Repetition(), 0.1),  # a snippet of code that stands there twice
        (ExactDuplicates(), 0.0),
        (NearDuplicates(), 0.01),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_how_much_plain_text_a_filter_drops(step, most, seed):
    texts = list(dict.fromkeys(made.documents(400, seed)))
    if isinstance(step, Corpuswide):
        results = run(step, texts)
    else:
        results = step.apply(texts)
    dropped = sum(bool(reason) for _, reason in results) / len(texts)
    note(f"{step.name} drops {dropped:.2%} of plain text")
    assert dropped <= most


PIECES = st.sampled_from(
    "<b> </b> <br> <p> </p> <script> </script> <!-- --> &amp; &lt; b &gt; &amp;lt; [b] [/b] "
    "[[a|나]] [[파일:a]] {{틀|a=b}} {{ }} '''가''' [x](http://a.b) ` `` < > & ; [ ] ( ) "
    "010-1234-5678 02-123-4567 900101-1234567 850505-5123456 1588-3456 전화 a@b.com @ - . + "
    "ÇÑ±¹¾î í•œêµ­ Ã© \u200b \u200d \u3000 \xa0 \ufffd \ud800 ㅤㅂㅘㅅ 가 \u1100\u1161 é e\u0301 "
    "\r\n \x1b[31m \ufeff ㅋㅋ 로그인 이전글 \t 0 1 ".split(" ")
    + [" ", "\n", "   ", "\n\n\n\n"]
)


@given(st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=500, deadline=None)
def test_a_change_made_twice_is_the_change_made_once(text):
    everything = (
        *CHANGES,
        Repair(form="NFKC", lost="\ufffd", blanks=1, empty_lines=0),
        Repair(form="", encodings=False),
        Markup(urls=False),
        Mask(kinds=("email", "phone", "resident_number", "foreigner_number", "card", "ipv4")),
    )
    for step in everything:
        once = step.change(text)
        assert step.change(once) == once
