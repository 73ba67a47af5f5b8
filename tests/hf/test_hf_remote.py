"""A model folder at an address is the same model, and is read by byte ranges."""

import fsspec
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf import writer
from maxlite.hf.folder import open_folder, resolve
from maxlite.hf.lazy import RemoteTensor
from maxlite.hf.signature import signature
from maxlite.state import base
from maxlite.storage import Url, files, relative


@pytest.fixture
def address(request):
    yield Url(f"memory://{request.node.name}")
    fsspec.filesystem("memory").store.clear()


def put(folder, address):
    for file in files(folder):
        (address / relative(file, folder)).put(file)
    return address


@pytest.mark.parametrize("size", ["5GB", "2KB"])
def test_it_is_the_same_model(make_folder, address, size, tmp_path):
    local = open_folder(make_folder(max_shard_size=size))
    (local.path / "tokenizer.json").write_text("{}")
    (local.path / "LICENSE").write_text("free")
    local = open_folder(local.path)
    remote = open_folder(resolve(str(put(local.path, address))))
    assert remote.architecture == local.architecture and remote.dtypes == local.dtypes
    assert remote.rendered() == local.rendered() and remote.config == local.config
    assert remote.files == {name: file.read_bytes() for name, file in local.files.items()}
    for name, tensor in local.tensors.items():
        assert isinstance(remote.tensors[name], RemoteTensor)
        assert np.array_equal(remote.tensors[name].read(), tensor.read())
    assert signature(remote.tensors) == signature(local.tensors)
    copies = [writer.write_model(tmp_path / n, m) for n, m in (("a", local), ("b", remote))]
    one, other = ([file.read_bytes() for file in files(copy)] for copy in copies)
    assert one == other


def test_weights_are_read_by_ranges(make_folder, address, monkeypatch):
    put(make_folder(), address)
    read = []

    def ranges(url, starts, stops):
        read.extend(zip(starts, stops, strict=True))
        return [content[a:b] for a, b in zip(starts, stops, strict=True)]

    def whole(url, *rest):
        assert url.suffix != ".safetensors", "fetched as a whole"
        return original(url, *rest)

    content, original = (address / "model.safetensors").read_bytes(), Url.read_bytes
    monkeypatch.setattr(Url, "read_bytes", whole)
    monkeypatch.setattr(Url, "open", whole)
    monkeypatch.setattr(Url, "read_ranges", ranges)
    model = open_folder(address)
    assert read == [(0, 8), (8, 8 + int.from_bytes(content[:8], "little"))]
    read.clear()
    table = model.tensors["model.embed_tokens.weight"]
    table.rows(3, 9).read(slice(1, 3))
    row = table.nbytes // table.shape[0]
    assert read == [(table.offset + 4 * row, table.offset + 6 * row)]


def test_a_base_there_is_known_again(make_folder, address):
    folder = make_folder()
    local, remote = base.of_folder(folder), base.of_folder(put(folder, address))
    assert remote.origin == str(address) and remote.identity == local.identity
    base.check(remote, address)
    (address / "config.json").write_bytes(b"{}")
    with pytest.raises(InputError, match=r"which has changed since the run began \(config.json\)"):
        base.check(remote, address)


def test_what_is_wrong_there_is_one_sentence(make_folder, address):
    with pytest.raises(InputError, match="there is no model folder memory://"):
        open_folder(address)
    put(make_folder(), address)
    data = (address / "model.safetensors").read_bytes()
    (address / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"model.safetensors is .* it is truncated"):
        open_folder(address)
    (address / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model.safetensors is 0 bytes long"):
        open_folder(address)
    (address / "model.safetensors").write_bytes(data)
    model = open_folder(address)
    (address / "model.safetensors").write_bytes(data[:4200])
    with pytest.raises(InputError, match="became shorter while it was being read"):
        [tensor.read() for tensor in model.tensors.values()]
