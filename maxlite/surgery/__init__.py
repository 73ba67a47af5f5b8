"""Rebuilding a model: pure functions from lazy models to lazy models, without jax."""
