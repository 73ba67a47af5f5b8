"""Pairs of sentences as paragraphs in both directions, for a source of its own in the mixture.

KoSOLAR trained on 5.86 % of English-Korean paragraph pairs beside 10.69 % of multilingual and
83.46 % of Korean text (its model card). How a pair was written there is not published; one
language above the other, in a direction by chance, is ours.

    python -m tools.clean_corpus --config=parallel.py --config.text=pairs.tsv --config.out=pairs
"""

from maxlite.corpus import Cleaning, ExactDuplicates, Length, Mask, Pairs, Repair


def get_config():
    return Cleaning(
        read=Pairs(
            fields=(1, 2), names=("English", "한국어"), template="{first}\n{second}", group=4
        ),
        steps=(Repair(), Length(min_chars=20), ExactDuplicates(), Mask()),
    )
