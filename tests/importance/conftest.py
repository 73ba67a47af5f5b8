import shutil

import importance_examples as examples
import pytest


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory, make_folder, tiny_text):
    """A tiny model of 3 layers that has learned something of the tiny text."""
    folder = make_folder(
        tmp_path_factory.mktemp("trained") / "model", num_hidden_layers=3, scale=0.1
    )
    examples.train(folder, tiny_text, steps=60)
    return folder


@pytest.fixture(scope="session")
def trained(trained_folder):
    """The same on one device."""
    return examples.one_device(trained_folder)


@pytest.fixture(scope="session")
def text(trained, tiny_text):
    """Eight rows for it."""
    return examples.text_of(trained, tiny_text)


@pytest.fixture
def killed(trained_folder, tmp_path):
    """killed(**units) -> Ready: the trained model with dead units."""

    def make(**units):
        folder = shutil.copytree(trained_folder, tmp_path / "killed")
        examples.kill(folder, **units)
        return examples.one_device(folder)

    return make
