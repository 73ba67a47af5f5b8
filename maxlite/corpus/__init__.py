"""Corpus: raw text cleaned, freed of duplicates, selected and paired, as a config lists it."""

from maxlite.corpus.boilerplate import Boilerplate
from maxlite.corpus.cleaning import Cleaning, Slurm, Text
from maxlite.corpus.exact import ExactDuplicates, RepeatedLines
from maxlite.corpus.filters import Language, Length, Sample, Script, Symbols
from maxlite.corpus.markup import Html, Markup
from maxlite.corpus.masking import Mask
from maxlite.corpus.near import NearDuplicates
from maxlite.corpus.pairs import Pairs
from maxlite.corpus.perplexity import BestPredicted, Perplexity
from maxlite.corpus.repair import Repair
from maxlite.corpus.repetition import Repetition
from maxlite.corpus.step import Change, Corpuswide, Filter, Step

__all__ = [
    "BestPredicted",
    "Boilerplate",
    "Change",
    "Cleaning",
    "Corpuswide",
    "ExactDuplicates",
    "Filter",
    "Html",
    "Language",
    "Length",
    "Markup",
    "Mask",
    "NearDuplicates",
    "Pairs",
    "Perplexity",
    "Repair",
    "RepeatedLines",
    "Repetition",
    "Sample",
    "Script",
    "Slurm",
    "Step",
    "Symbols",
    "Text",
]
