"""What tests of the blocks' compiled passes share."""

from __future__ import annotations

import pytest

from xlstm_model.native import library


@pytest.fixture(autouse=True)
def _widest_vectors_afterwards():
    yield
    if library.load_library() is not None:
        library.load_library().xlstm_restrict_vectors(16)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Names of the kernels that run."""
    names, call = [], library.call

    def noting(name, *more, **named):
        names.append(name)
        return call(name, *more, **named)

    monkeypatch.setattr(library, "call", noting)
    return names
