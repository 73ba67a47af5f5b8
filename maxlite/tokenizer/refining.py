"""A vocabulary refined by frequency, as EEVE-Korean's was (arXiv 2402.14714 and its model card).

New pieces are counted in a corpus; those seen less often than a threshold are dropped, single
characters of the script that are missing and seen more often are added, and so again, until nothing
changes: dropping a piece makes others more frequent. What was dropped is banned, so that it ends.

Dropping a piece can strand others, which are made of it and frequent. So it isn't dropped before
them: the longer pieces that leave it too little text go instead, the rarest first, until it is seen
often enough by itself. In the end all new pieces are, but for those a person keeps and what they
are made of, and, in byte-level tokenizers, parts of characters. As published, rare pieces are
dropped whatever becomes of others; then what is stranded would be counted 0, and goes with them.
Single characters are never treated so (without them tokenizer.json makes no piece that holds them),
nor are the pieces of byte-level tokenizers, where merges lead over them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maxlite.errors import InputError
from maxlite.tokenizer.counts import Counts
from maxlite.tokenizer.definition import Definition, without_characters
from maxlite.tokenizer.dropping import to_drop
from maxlite.tokenizer.growth import Growth, characters, readable, written
from maxlite.tokenizer.pieces import listed
from maxlite.tokenizer.tokenizer import Tokenizer

MIN_COUNT, PER_BYTES = 6000, 10**11  # EEVE's: in 100 GB
LEAST = 100  # what MIN_COUNT scales down to: below, too few examples to learn a row from
MAX_ROUNDS = 50

Count = Callable[[Tokenizer, int], Counts]  # of the corpus with a tokenizer; and the round, from 1


@dataclass(frozen=True)
class Rules:
    """What decides over new pieces.

    Attributes:
      script: Unicode's names with | between them, of the characters to add.
      min_count: a piece seen so often stays, and a character must be seen more often to be added;
        0 scales `MIN_COUNT` to the corpus.
      keep: pieces that stay however rare they are, with " " or "▁" for a space.
      ban: pieces that are never added.
      scores: as in `Definition.extended`.
      as_published: drop rare pieces even if that strands frequent ones.
    """

    script: str
    min_count: int = 0
    keep: tuple[str, ...] = ()
    ban: tuple[str, ...] = ()
    scores: str = "ranked"
    as_published: bool = False


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
      candidates: new pieces that were counted.
      dropped, added: pieces.
      pieces: new ones after it.
      tokens, characters: of the corpus, with the candidates.
    """

    candidates: int
    dropped: int
    added: int
    pieces: int
    tokens: int
    characters: int

    @property
    def tokens_per_character(self) -> float:
        """Of the corpus; fewer is better."""
        return self.tokens / self.characters


@dataclass(frozen=True)
class State:
    """How far it has come.

    Attributes:
      growth: the new pieces.
      banned: what was dropped, in the order of rounds, and what the rules ban, first.
      rounds: those done.
      min_count: the threshold; 0 before the first round.
      settled: the last round changed nothing.
    """

    growth: Growth
    banned: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()
    min_count: int = 0
    settled: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "State":
        """What `dataclasses.asdict` made of one, as JSON gives it back."""
        given = dict(values)
        growth, rounds = given.pop("growth"), given.pop("rounds")
        merges = growth["merges"]
        return cls(
            Growth(
                tuple(growth["pieces"]),
                None if merges is None else tuple((left, right) for left, right in merges),
            ),
            tuple(given.pop("banned")),
            tuple(Round(**each) for each in rounds),
            **given,
        )


@dataclass(frozen=True)
class Refined:
    """The end of it.

    Attributes:
      definition: the base with the new pieces.
      counts: of the corpus with it.
      state: with the rounds, and what was banned.
      rare: new pieces below the threshold, by their counts: those to keep, what they are made of,
        parts of characters.
      unreachable: of those to keep, what no text can produce any more.
    """

    definition: Definition
    counts: Counts
    state: State
    rare: dict[str, int]
    unreachable: list[str]


def scaled(size: int) -> int:
    """EEVE's threshold for a corpus of so many bytes, at least `LEAST`."""
    return max(LEAST, round(MIN_COUNT * size / PER_BYTES))


def begin(base: Definition, candidates: Growth, rules: Rules) -> State:
    """Applies what a person has to say about the candidates.

    Raises:
      InputError: a piece both to keep and banned, or to keep and impossible; no candidate is left.
    """
    keep, ban = _lists(base, rules)
    gone = ban.intersection(candidates.pieces)
    growth = candidates.without(gone)
    if growth.merges is not None:
        growth = growth.without(candidates.stranded(base, gone))
    elif rules.scores == "ranked":
        growth = growth.without(set(without_characters(base, growth.pieces)))
    missing = [piece for piece in keep if piece not in {*growth.pieces, *base.ids}]
    texts = [readable(base, piece) for piece in missing]
    singles = _absent(base, growth, dict.fromkeys("".join(texts)))
    if wrong := [c for c in singles if written(base, c) in ban]:
        raise InputError(f"the list of what to keep needs {listed(wrong)}, which the other bans")
    growth = growth.with_characters(base, singles, frozenset(singles) | characters(rules.script))
    growth = growth.with_pieces(base, [p for p in missing if p not in growth.pieces])
    if not growth.pieces:
        raise InputError(
            f"there are no candidates: nothing of the script {rules.script} that "
            f"{base.where} lacks was found or is left"
        )
    if dead := [p for p in growth.stranded(base, set(), rules.scores) if p in keep]:
        names = listed(readable(base, piece) for piece in dead)
        raise InputError(
            f"{names} cannot be kept: no two pieces that text becomes together make them; list "
            "the parts they are made of, too"
        )
    return State(growth, tuple(readable(base, piece) for piece in sorted(ban)))


def refine(
    base: Definition,
    state: State,
    rules: Rules,
    count: Count,
    save: Callable[[State], None] = lambda state: None,
    most: int = MAX_ROUNDS,
) -> Refined:
    """Goes from round to round until one changes nothing.

    Args:
      base: a BPE tokenizer.
      state: from `begin`, or where an earlier call came to.
      rules: the same each time.
      count: counts the corpus; once a round.
      save: told after each round but the last.
      most: rounds, those before included.

    Raises:
      InputError: an empty corpus, nothing left, or too many rounds.
    """
    while len(state.rounds) < most:
        state, counts = next_round(base, state, rules, count)
        if state.settled:
            seen = _seen(base, state.growth, counts)
            rare = {p: n for p, n in seen.items() if n < state.min_count}
            lost = state.growth.stranded(base, set(), rules.scores)
            definition = state.growth.on(base, rules.scores)
            return Refined(definition, counts, state, rare, sorted(lost))
        save(state)
    last = f": the last one dropped {state.rounds[-1].dropped:,} pieces" if state.rounds else ""
    raise InputError(f"after {len(state.rounds)} rounds it is not settled{last}; allow more rounds")


def next_round(base: Definition, state: State, rules: Rules, count: Count) -> tuple[State, Counts]:
    """One round: counts the corpus, drops and adds.

    In the first one all characters of the script that are no pieces are counted along, as pieces of
    their own: they are parts of no other piece, so nothing else is segmented otherwise. Later they
    needn't be counted again.

    Raises:
      InputError: there is no text, or it leaves no new piece.
    """
    probes: list[str] = []
    own = characters(rules.script)
    if not state.rounds:
        banned = set(state.banned)
        probes = [c for c in _absent(base, state.growth, sorted(own)) if c not in banned]
    probed = state.growth.with_characters(base, probes, own)
    counts = count(probed.on(base, rules.scores).tokenizer(_counting(base)), len(state.rounds) + 1)
    total = counts.total
    if not total.tokens:
        raise InputError("there is no text to count new pieces in")
    least = state.min_count or rules.min_count or scaled(total.bytes or 0)
    seen = _seen(base, probed, counts)
    met = {c: n for c in probes if (n := seen.get(written(base, c), 0))}
    frequent = sorted((c for c, n in met.items() if n > least), key=lambda c: (-met[c], c))
    always = not rules.as_published or state.growth.merges is not None
    keep = set(_lists(base, rules)[0])
    fallen = to_drop(base, state.growth, seen, least, keep, always, rules.scores)
    growth = state.growth.without(fallen).with_characters(base, frequent, own)
    if not growth.pieces:
        raise InputError(
            f"no new piece is seen {least:,} times in this corpus; lower the threshold"
        )
    as_before = base.tokenizer().encode_inside([c.encode() for c in met])
    more = sum(n * (max(1, len(ids)) - 1) for n, ids in zip(met.values(), as_before, strict=True))
    done = Round(
        candidates=len(state.growth.pieces),
        dropped=len(fallen),
        added=len(frequent),
        pieces=len(growth.pieces),
        tokens=total.tokens + more,
        characters=total.characters or 0,
    )
    dropped = (readable(base, piece) for piece in state.growth.pieces if piece in fallen)
    return State(
        growth,
        (*state.banned, *dropped),
        (*state.rounds, done),
        least,
        settled=not (fallen or frequent or probes),
    ), counts


def _lists(base: Definition, rules: Rules) -> tuple[list[str], set[str]]:
    keep = [*dict.fromkeys(written(base, text) for text in rules.keep)]
    ban = {written(base, text) for text in rules.ban}
    if both := [readable(base, piece) for piece in keep if piece in ban]:
        raise InputError(f"{listed(both)} are both to keep and banned; take them from one list")
    return keep, ban


def _absent(base: Definition, growth: Growth, texts: Any) -> list[str]:
    """Characters that are no pieces."""
    known = {*base.ids, *growth.pieces}
    return [c for c in texts if written(base, c) not in known]


def _counting(base: Definition) -> str:
    """The form to count with: the faster one."""
    return "model" if base.form == "sentencepiece" else "json"


def _seen(base: Definition, growth: Growth, counts: Counts) -> dict[str, int]:
    return dict(zip(growth.pieces, counts.counts[len(base.pieces) :].tolist(), strict=True))
