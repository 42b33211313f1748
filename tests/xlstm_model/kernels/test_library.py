"""Where the GPU kernels are chosen, and what is said where they can't be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from xlstm_model.kernels import library


@pytest.fixture
def gpu(monkeypatch):
    """A CUDA device as the selection sees it."""
    library._device_fits.cache_clear()
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(library, "_has_triton", lambda: True)
    monkeypatch.setattr(library, "_shared_memory", lambda _: 227 * 1024)
    yield torch.device("cuda")
    library._device_fits.cache_clear()


def test_a_fitting_gpu_is_taken(gpu):
    assert library._device_fits(gpu)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_has_triton", lambda: False, "pip install triton"),
        ("_shared_memory", lambda _: 99 * 1024, "160 KiB"),
    ],
    ids=["no triton", "little memory"],
)
def test_others_are_told_why_once(gpu, monkeypatch, name, value, words):
    monkeypatch.setattr(library, name, value)
    with pytest.warns(RuntimeWarning, match=words):
        assert not library._device_fits(gpu)
    assert not library._device_fits(gpu)


def test_old_gpus_go_without(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.warns(RuntimeWarning, match="older than"):
        assert not library._device_fits(gpu)


def test_wide_and_half_numbers_do_not_fit():
    assert not library.fits(torch.zeros(1, dtype=torch.float64))
    assert not library.fits(torch.zeros(1, dtype=torch.float16))


def test_masks_and_states_elsewhere_are_refused():
    here = SimpleNamespace(get_device=lambda: 0, device="cuda:0")
    library.check_device(here, None, here)
    with pytest.raises(ValueError, match=r"is on cpu; expected cuda:0.*\.to\('cuda:0'\)"):
        library.check_device(here, None, torch.zeros(1))


def test_heads_too_wide_are_told_of_once(monkeypatch):
    monkeypatch.setattr(library, "_said", set())
    widest = {torch.bfloat16: 128, torch.float32: 64}
    assert library.head_fits("mLSTM", 64, widest, torch.float32)
    with pytest.warns(
        RuntimeWarning, match="heads of 65 units in float32 are wider than 64"
    ) as told:
        assert not library.head_fits("mLSTM", 65, widest, torch.float32)
    assert str(told[0].message).endswith("Set num_heads to more heads, or use bfloat16.")
    assert not library.head_fits("mLSTM", 65, widest, torch.float32)
    with pytest.warns(RuntimeWarning) as told:
        assert not library.head_fits("mLSTM", 129, widest, torch.float32)
    assert str(told[0].message).endswith("Set num_heads to more heads.")


def test_float16_on_a_gpu_is_told_what_to_use(gpu, monkeypatch):
    monkeypatch.setattr(library, "_said", set())
    half = SimpleNamespace(dtype=torch.float16, device=gpu)
    with pytest.warns(RuntimeWarning, match="Use bfloat16"):
        assert not library.fits(half)
    assert not library.fits(half)
    exact = SimpleNamespace(dtype=torch.float64, device=gpu)
    assert not library.fits(exact)


def test_float16_on_an_old_gpu_is_told_the_gpu_alone(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.warns(RuntimeWarning) as told:
        assert not library.fits(SimpleNamespace(dtype=torch.float16, device=gpu))
    assert len(told) == 1
    assert "older than" in str(told[0].message)


def test_tensors_of_two_devices_do_not_fit(gpu):
    places = (gpu, torch.device("cpu"))
    given = [SimpleNamespace(dtype=torch.float32, device=place) for place in places]
    assert library.fits(given[0])
    assert not library.fits(*given)
    assert not library.fits(*given[::-1])
