"""What tools share that take a model from the hub: --revision, --token_file, the folder meant."""

import functools

from absl import flags

from maxlite.hf import hub
from maxlite.hf.folder import resolve

FLAGS = flags.FLAGS

flags.DEFINE_string("revision", "", "Of a hub id: a branch, tag or commit; empty: its main branch.")
flags.DEFINE_string(
    "token_file",
    "",
    "A file with the token for a hub id that needs one; empty: HF_TOKEN, or `hf auth login`'s.",
)


@functools.cache
def model() -> str:
    """The folder or run that --model names; what it names on the hub is downloaded first.

    A branch is looked up once, so that a tool never sees two commits of it.
    """
    hub.use_token(FLAGS.token_file)
    return str(resolve(FLAGS.model, FLAGS.revision))
