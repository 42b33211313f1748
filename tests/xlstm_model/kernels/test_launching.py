"""Launching compiled programs without Triton's look at every argument."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

from xlstm_model.kernels import launching
from xlstm_model.kernels.launching import Direct, direct, kind_of, prepare


class FakeKernel:
    """Records how it is launched, as Triton would launch it or by its program."""

    arg_names = ("x", "size", "BLOCK")

    def __init__(self):
        self.looked, self.launched = [], []

    def __getitem__(self, grid):
        def look(*arguments, **options):
            self.looked.append((grid, arguments, options))
            return SimpleProgram(self.launched)

        return look


class SimpleProgram:
    def __init__(self, launched):
        self.launched = launched

    def __getitem__(self, grid):
        return lambda *arguments: self.launched.append((grid, arguments))


def test_the_second_launch_of_a_kind_goes_to_the_program():
    kernel = FakeKernel()
    quick = Direct(kernel)
    x, y = torch.zeros(8), torch.ones(8)
    quick[(3, 2)](x, 8, BLOCK=16, num_warps=4)
    quick[(5,)](y, 8, BLOCK=16, num_warps=4)
    assert len(kernel.looked) == 1
    ((grid, arguments),) = kernel.launched
    assert grid == (5, 1, 1)
    assert arguments == (y.data_ptr(), 8, 16)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: ((x[1:], 8), {"BLOCK": 16}),
        lambda x: ((x.double(), 8), {"BLOCK": 16}),
        lambda x: ((None, 8), {"BLOCK": 16}),
        lambda x: ((x, 9), {"BLOCK": 16}),
        lambda x: ((x, 8.0), {"BLOCK": 16}),
        lambda x: ((x, 8), {"BLOCK": 32}),
        lambda x: ((x, 8), {"BLOCK": 16, "num_warps": 2}),
        lambda x: ((None, x), {"BLOCK": 16}),
    ],
    ids=["alignment", "dtype", "absent", "integer", "float", "constant", "option", "order"],
)
def test_other_kinds_are_looked_at(other):
    x = torch.zeros(8)
    kind = kind_of((x, 8), {"BLOCK": 16})[0]
    assert kind == kind_of((x.clone(), 8), {"BLOCK": 16})[0]
    assert kind_of(*other(x))[0] != kind


def test_a_kernel_runs_where_its_tensors_are(monkeypatch):
    current, kernel = [0], FakeKernel()

    @contextmanager
    def switch(device):
        current.append(device.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", switch)
    places = []
    monkeypatch.setattr(
        FakeKernel,
        "__getitem__",
        lambda self, grid: lambda *x, **y: places.append(current[-1]) or SimpleProgram([]),
    )
    monkeypatch.setattr(launching, "Tensor", ElsewhereTensor)
    for _ in range(2):
        Direct(kernel)[(1,)](ElsewhereTensor(), 8, BLOCK=16)
    assert places == [1, 1]


class ElsewhereTensor:
    """A tensor on the second GPU, as a launch sees it."""

    dtype, device = torch.float32, torch.device("cuda", 1)

    def data_ptr(self):
        return 256

    def get_device(self):
        return 1


def test_a_prepared_kernel_is_looked_up_once():
    kernel = FakeKernel()
    prepared = prepare(Direct(kernel), (3, 2), (8,), -1, BLOCK=16, num_warps=4)
    x, y = torch.zeros(8), torch.ones(8)
    prepared(x)
    prepared(y)
    assert kernel.looked == [((3, 2), (x, 8), {"BLOCK": 16, "num_warps": 4})]
    assert kernel.launched == [((3, 2, 1), (y.data_ptr(), 8, 16))]


def test_a_prepared_kernel_looks_at_memory_that_begins_elsewhere():
    kernel = FakeKernel()
    prepared = prepare(Direct(kernel), (1,), (8,), -1, BLOCK=16)
    x = torch.zeros(8)
    prepared(x)
    prepared(x[1:])
    prepared(x[1:])
    assert [arguments[0].data_ptr() for _, arguments, _ in kernel.looked] == [
        x.data_ptr(),
        x[1:].data_ptr(),
    ]
    assert kernel.launched == [((1, 1, 1), (x[1:].data_ptr(), 8, 16))]


def test_a_prepared_kernel_takes_absent_and_empty_tensors():
    kernel = FakeKernel()
    for absent in (None, torch.empty(0)):
        prepared = prepare(Direct(kernel), (1,), (8,), -1, BLOCK=16)
        prepared(absent)
        prepared(absent)
    assert [arguments[0] for _, arguments in kernel.launched] == [None, 0]


def test_a_prepared_kernel_runs_where_its_tensors_are(monkeypatch):
    current, places = [1], []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    kernel = Direct(FakeKernel())
    monkeypatch.setattr(kernel, "_launch", lambda *x, **y: places.append("looked at"))
    prepared = prepare(kernel, (1,), (8,), 1, BLOCK=16)
    prepared(torch.zeros(8))
    current.append(0)
    prepared(torch.zeros(8))
    assert places == ["looked at"]
    assert len(kernel.kernel.looked) == 1


def test_a_kernel_that_is_not_direct_is_prepared_too():
    kernel = FakeKernel()
    x = torch.zeros(8)
    prepare(kernel, (2,), (8,), -1, BLOCK=16)(x)
    assert kernel.looked == [((2,), (x, 8), {"BLOCK": 16})]


def test_what_is_no_compiled_function_stays_as_it_is():
    kernel = SimpleNamespace()
    assert direct(kernel) is kernel
