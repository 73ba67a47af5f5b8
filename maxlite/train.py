"""Trains what a config file describes: python -m maxlite.train --config=continue.py

  --config=FILE           a config file: a path, a name in configs/, or the only match in configs/*/
  --config.key.sub=VALUE  sets a key of it
  --dry_run               checks everything and says what would be done
  --token_file=FILE       a file with the token for a model on the hub that needs one; without it
                          HF_TOKEN is used, or the token of `hf auth login`
  --help                  this text, and every key

One process of several, where no launcher says so (a TPU pod, SLURM, Open MPI, a Kubernetes job):

  --coordinator=HOST:PORT where process 0 is reached: its machine, and a port that is free there
  --processes=N           how many there are
  --process=I             which of them this is, from 0
  --coordinator_timeout=S seconds that they wait for each other (300)

Start the same command again to go on from the last checkpoint in `out`. SIGTERM and Ctrl-C save and
exit with 0, in all processes when one of them gets it; `status.json` in the run folder says
running, stopped, finished or failed.
"""

import sys
from collections.abc import Sequence

from maxlite import console, flags, xla
from maxlite.errors import InputError
from maxlite.hf import hub

PROCESS = ("coordinator", "processes", "process", "coordinator_timeout")


def main(argv: Sequence[str]) -> None:
    if "--help" in argv or "-h" in argv:
        print(f"{__doc__}\nKeys, their types and defaults:\n{flags.describe()}")
        return
    config, rest = flags.parse(argv)
    who, rest = flags.taken(rest, PROCESS)
    token, rest = flags.taken(rest, ("token_file",))
    dry_run = "--dry_run" in rest
    unknown = [a for a in rest if a != "--dry_run"]
    if unknown:  # without its value, which may be a secret that was meant for another flag
        name = unknown[0].partition("=")[0]
        raise InputError(f"unknown argument {name!r}; --help lists what there is")
    hub.use_token(token.get("token_file", ""))

    xla.set_flags(config.deterministic)
    # After the config is known to be good: importing jax takes a second.
    from maxlite import distributed
    from maxlite.state.compiled import keep_compiled
    from maxlite.training import loop

    keep_compiled()
    distributed.initialize(**who)
    with distributed.fate_shared():
        at_once = loop.train(config, dry_run)
    if at_once:
        console.leave()


if __name__ == "__main__":
    console.run(main)
    sys.exit()
