"""Trains what a config file describes: python -m maxlite.train --config=continue.py

  --config=FILE           a config file: a path, a name in configs/, or the only match in configs/*/
  --config.key.sub=VALUE  sets a key of it
  --dry_run               checks everything and says what would be done
  --help                  this text, and every key

Start the same command again to go on from the last checkpoint in `out`. SIGTERM and Ctrl-C save and
exit with 0; `status.json` in the run folder says running, stopped, finished or failed.
"""

import sys
from collections.abc import Sequence

from maxlite import console, flags
from maxlite.errors import InputError


def main(argv: Sequence[str]) -> None:
    if "--help" in argv or "-h" in argv:
        print(f"{__doc__}\nKeys, their types and defaults:\n{flags.describe()}")
        return
    config, rest = flags.parse(argv)
    dry_run = "--dry_run" in rest
    unknown = [a for a in rest if a != "--dry_run"]
    if unknown:
        raise InputError(f"unknown argument {unknown[0]!r}; --help lists what there is")

    # After the config is known to be good: importing jax takes a second.
    from maxlite import distributed
    from maxlite.state.compiled import keep_compiled
    from maxlite.training import loop

    keep_compiled()
    distributed.initialize()
    if loop.train(config, dry_run):
        console.leave()


if __name__ == "__main__":
    console.run(main)
    sys.exit()
