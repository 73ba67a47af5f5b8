"""What XLA compiles is kept on disk, so that the next program like this one starts at once."""

from __future__ import annotations

import os

import jax

from maxlite.storage import cache_folder


def keep_compiled() -> None:
    """Keeps it in the cache beside the tokens, unless JAX_COMPILATION_CACHE_DIR is set."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            # Small programs, too: a start has dozens of them, and they add up to a second.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
