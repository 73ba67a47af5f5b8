"""Prints how the run of a config stands: launch/run_status.py --config=FILE [--config.key=VALUE …]

One line: its status (none while there is no run), its last verified checkpoint (-1: none), and its
folder. What starts a run again and again asks this in between.
"""

import json
from collections.abc import Sequence

from maxlite import console, flags, storage
from maxlite.errors import InputError


def main(argv: Sequence[str]) -> None:
    config, _ = flags.parse(argv)
    if not config.out:
        raise InputError("config key 'out' is empty; name the folder of the run")
    out = storage.place(config.out)
    file, found = out / "status.json", {"status": "none", "checkpoint": -1}
    try:
        if file.is_file():
            found = json.loads(file.read_bytes())
    except ValueError as e:
        raise InputError(f"{file} is damaged: {e}; restore it from a copy") from e
    print(found["status"], found["checkpoint"], out)


if __name__ == "__main__":
    console.run(main)
