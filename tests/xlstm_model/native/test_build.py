"""Building the kernels ahead, and going without them."""

from __future__ import annotations

import ctypes
import shutil

import pytest
import torch

from xlstm_model.cells import mlstm_chunkwise
from xlstm_model.native import build, library


def test_without_a_library_everything_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    library.load_library.cache_clear()
    try:
        assert library.load_library() is None
        assert not library.fits(torch.zeros(1))
        x, gate = torch.ones(1, 1, 3, 1), torch.zeros(1, 1, 3)
        assert torch.equal(mlstm_chunkwise(x, x, x, gate, gate)[0], x)
    finally:
        library.load_library.cache_clear()


def test_without_a_compiler_the_message_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(FileNotFoundError, match="CXX is 'no-such-compiler'"):
        build.build(tmp_path)
    assert build.main() == 1
    assert "leave the kernels out" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_builds_a_library_of_the_interface_the_module_calls(tmp_path):
    path = build.build(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert ctypes.CDLL(str(path)).xlstm_interface_version() == library.INTERFACE_VERSION
