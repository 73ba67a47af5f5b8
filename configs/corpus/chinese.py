"""Chinese text from the web or books: repaired, filtered, each thing once, nobody's data.

As korean.py, with Chinese characters for Hangul; a text says more in fewer of them.

    python -m tools.clean_corpus --config=chinese.py --config.text='raw/*.txt' --config.out=clean
"""

from maxlite.corpus import (
    Boilerplate,
    Cleaning,
    ExactDuplicates,
    Length,
    Markup,
    Mask,
    NearDuplicates,
    Repair,
    RepeatedLines,
    Repetition,
    Script,
    Symbols,
    Text,
)


def get_config():
    return Cleaning(
        read=Text(field="text", txt="line"),
        steps=(
            Markup(),
            Repair(),
            Boilerplate(),
            Length(min_chars=5),
            Script("Han", min_share=0.5),
            Symbols(),
            Repetition(),
            ExactDuplicates(),
            NearDuplicates(threshold=0.8),
            RepeatedLines(min_documents=10),
            Mask(),
        ),
    )
