"""Prints how the run of a config stands: launch/run_status.py --config=FILE [--config.key=VALUE …]

One line: its status (none while there is no run), its last verified checkpoint (-1: none), and its
folder. What starts a run again and again asks this in between.
"""

import json
from collections.abc import Sequence

from etils import epath

from maxlite import console, flags
from maxlite.errors import InputError


def main(argv: Sequence[str]) -> None:
    config, _ = flags.parse(argv)
    if not config.out:
        raise InputError("config key 'out' is empty; name the folder of the run")
    try:
        out = epath.Path(config.out).expanduser()
        found = json.loads((out / "status.json").read_text())
    except FileNotFoundError:
        found = {"status": "none", "checkpoint": -1}
    except ImportError as e:  # of what reads the storage
        raise InputError(f"the run folder {config.out} cannot be read: {e}") from e
    except ValueError as e:
        raise InputError(f"{out / 'status.json'} is damaged: {e}; restore it from a copy") from e
    print(found["status"], found["checkpoint"], out)


if __name__ == "__main__":
    console.run(main)
