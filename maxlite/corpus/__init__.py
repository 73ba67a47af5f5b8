"""Corpus: raw text cleaned, freed of duplicates, selected and paired, as a config lists it."""
