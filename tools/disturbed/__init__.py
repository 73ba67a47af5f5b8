"""Runs of the training program that are hit on purpose, and what they must end in."""
