"""The two cells of xLSTM as pure functions, with their states."""

from xlstm_model.cells.mlstm import mlstm_chunkwise, mlstm_parallel, mlstm_step
from xlstm_model.cells.reference import mlstm_reference, slstm_reference
from xlstm_model.cells.slstm import slstm_sequence
from xlstm_model.cells.slstm_step import GateKind, slstm_step
from xlstm_model.cells.states import (
    MLSTMState,
    SLSTMState,
    compute_dtype,
    empty_mlstm_state,
    empty_slstm_state,
)

__all__ = [
    "GateKind",
    "MLSTMState",
    "SLSTMState",
    "compute_dtype",
    "empty_mlstm_state",
    "empty_slstm_state",
    "mlstm_chunkwise",
    "mlstm_parallel",
    "mlstm_reference",
    "mlstm_step",
    "slstm_reference",
    "slstm_sequence",
    "slstm_step",
]
