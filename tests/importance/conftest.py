import importance_examples as examples
import pytest


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory, make_folder, tiny_text):
    """A tiny model of 3 layers that has learned something of the tiny text."""
    folder = make_folder(
        tmp_path_factory.mktemp("trained") / "model", num_hidden_layers=3, scale=0.1
    )
    examples.train(folder, tiny_text, steps=300)
    return folder


@pytest.fixture(scope="session")
def trained(trained_folder):
    """The same on one device."""
    return examples.one_device(trained_folder)


@pytest.fixture(scope="session")
def text(trained, tiny_text):
    """Eight rows for it."""
    return examples.text_of(trained, tiny_text)


@pytest.fixture(scope="session")
def planted(tmp_path_factory, make_folder, tiny_text):
    """Another that had dead units from the start, so that the others learned without them."""
    folder = make_folder(
        tmp_path_factory.mktemp("planted") / "model", num_hidden_layers=3, scale=0.1
    )
    examples.kill(folder, **examples.DEAD)
    examples.train(folder, tiny_text, steps=300)
    return examples.one_device(folder)
