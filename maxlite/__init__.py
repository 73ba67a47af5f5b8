"""maxlite: teach a Llama-family model a new language, in JAX."""

__version__ = "0.1.0"
