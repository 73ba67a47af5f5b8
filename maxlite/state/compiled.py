"""What XLA compiles is kept on disk, so that the next program like this one starts at once."""

from __future__ import annotations

import os

import jax


def keep_compiled() -> None:
    """Keeps it in $MAXLITE_CACHE or ~/.cache/maxlite, unless JAX_COMPILATION_CACHE_DIR is set."""
    if not jax.config.values["jax_compilation_cache_dir"]:
        root = os.path.expanduser(os.environ.get("MAXLITE_CACHE") or "~/.cache/maxlite")
        jax.config.update("jax_compilation_cache_dir", os.path.join(root, "compiled"))
