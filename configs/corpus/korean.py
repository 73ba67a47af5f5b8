"""Korean text from the web, reviews or books: repaired, filtered, each thing once, nobody's data.

RedWhale cleaned its corpus so (arXiv 2408.11294: random selection, n-gram de-duplication, a filter
by perplexity); its thresholds are not published, so those here are ours. What a filter drops is
read before it is trusted: --config.keep_dropped keeps it with its reason.

    python -m tools.clean_corpus --config=korean.py --config.text='raw/*.txt' --config.out=clean
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
            # One text at a time: what it says is not changed, only how it is written.
            Markup(),
            Repair(),
            Boilerplate(),
            # What is not running text in Korean.
            Length(min_chars=10),
            Script("Hangul", min_share=0.5),
            Symbols(),
            Repetition(),
            # Each thing once, in the order of the files. Lines last: see RepeatedLines.
            ExactDuplicates(),
            NearDuplicates(threshold=0.8),
            RepeatedLines(min_documents=10),
            # With a model that knows good text, a tenth that it finds strangest goes:
            #   BestPredicted(model="folder", keep=0.9),
            # A representative tenth of a corpus that is too large:
            #   Sample(share=0.1),
            Mask(),
        ),
    )
