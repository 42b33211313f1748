"""Recording work as a CUDA graph, and going on where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph) -> Iterator[None]:
    """Record what runs inside as a graph.

    A recording that fails leaves PyTorch on the recording's stream, and its noise generator waiting
    for the recording to end: every draw after it would fail. Both are put back before the error
    goes on.

    Args:
        graph: filled by the recording.

    Raises:
        RuntimeError: what runs inside cannot be recorded.
    """
    stream = torch.cuda.current_stream()
    generator = torch.cuda.default_generators[stream.device_index]
    noise = generator.clone_state()
    try:
        with torch.cuda.graph(graph):
            yield
    except RuntimeError:
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(noise)
        raise
