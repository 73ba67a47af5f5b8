"""The loop over steps: the host never waits for the step that runs."""

import shutil
from collections.abc import Mapping

import jax
import pytest
from commands import call, metrics

from maxlite.config import Config, Optimizer
from maxlite.training import optim
from maxlite.training.trainer import Trainer

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        out="{here}/run",
        steps=10,
        batch_size=16,
        accumulate=2,
        seq_len=32,
        data=Data(train=(Source("{here}/xx.txt"),)),
        optimizer=Optimizer(learning_rate=3e-3, schedule="cosine", warmup=2),
        checkpoint=Checkpoint(every=6),
        eval=Eval(every=0),
        log=Log(every=2),
    )
"""


class Watched(Mapping):
    """A step's figures; whoever looks at one is noted."""

    def __init__(self, figures, note):
        self.figures, self.note = figures, note

    def __getitem__(self, key):
        self.note()
        return self.figures[key]

    def __iter__(self):
        return iter(self.figures)

    def __len__(self):
        return len(self.figures)


@pytest.fixture
def desk(tmp_path, make_folder, tiny_text):
    make_folder(tmp_path / "model")
    shutil.copy(tiny_text / "xx.txt", tmp_path / "xx.txt")
    (tmp_path / "stage.py").write_text(STAGE.format(here=tmp_path))
    return tmp_path


def test_figures_are_looked_at_a_step_behind_and_the_state_is_given_away(desk, monkeypatch):
    events: list[tuple[str, int]] = []
    compile_ = Trainer._compile

    def watched(trainer):
        compile_(trainer)
        step = trainer._step
        assert isinstance(step, jax.stages.Compiled)  # one program, micro-batches and update

        def counted(state, *rest):
            number = 1 + sum(kind == "begin" for kind, _ in events)
            events.append(("begin", number))
            new, figures = step(state, *rest)
            arrays = [x for x in jax.tree.leaves(state) if x.ndim]  # with both moments
            # A CPU's arrays are written to disk from where they are, so after a save they stay.
            given = number == 7 or all(x.is_deleted() for x in arrays)
            assert len(arrays) > 30 and given, number

            def note():
                if ("look", number) not in events:
                    events.append(("look", number))

            return new, Watched(figures, note)

        trainer._step = counted

    monkeypatch.setattr(Trainer, "_compile", watched)
    outcome = call("maxlite.train", f"--config={desk}/stage.py")
    assert outcome.status == 0, outcome.err
    at = {event: place for place, event in enumerate(events)}
    assert len(events) == 20  # of ten steps of two micro-batches each
    for step in range(1, 11):
        waits = step in (6, 10)  # for what is to be saved
        assert (at["look", step] < at.get(("begin", step + 1), 99)) == waits, step
    optimizer = Optimizer(learning_rate=3e-3, schedule="cosine", warmup=2)
    schedule = optim.schedule(Config(steps=10, optimizer=optimizer))
    told = {line["step"]: line["learning_rate"] for line in metrics(desk / "run")}
    assert told == {
        step: pytest.approx(float(schedule(step - 1)), rel=1e-6) for step in range(2, 11, 2)
    }
