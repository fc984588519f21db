"""The electronics of a student for other programs: normalisation and backend as ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from fouroptics.models.sclc import Student
from torch import Tensor, nn

from fouroptics.errors import InputError
from fouroptics.files import whole_file


class Electronics(nn.Module):
    """What comes behind the readings: they are normalised as they were in training, then scored."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.reader, self.backend = student.reader, student.backend

    def forward(self, readings: Any) -> Tensor:
        found: Tensor = self.backend(self.reader.normalised(readings))
        return found


def export_backend(student: Student, path: str | Path) -> None:
    """Write a student's electronics as ONNX: ``readings`` ``[batch, channels, Y, X]`` in, ``scores`` out.

    Of several levels they are ``readings_0``, ``readings_1``, …, the coarsest first.
    Readings are those of ``student.readings``: what the camera gave, companded and pooled, not yet normalised.

    Raises:
        InputError: the exporter is not installed.
    """
    try:
        import onnx  # type: ignore[import-not-found, unused-ignore]
        import onnxscript  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise InputError("onnx is not installed", where=str(path), mend='pip install "fouroptics[onnx]"') from None
    given, batch = student.reader.dark(2), {0: torch.export.Dim("batch", min=1)}
    names = [f"readings_{number}" for number in range(len(given))] if isinstance(given, list) else ["readings"]
    shapes = [batch] * len(given) if isinstance(given, list) else batch
    with warnings.catch_warnings(), whole_file(Path(path)) as temporary:
        warnings.simplefilter("ignore")  # torch's exporter speaks of other packages' layers
        program = torch.onnx.export(
            Electronics(student).eval(), (given,), input_names=names, output_names=["scores"],
            dynamic_shapes=(shapes,), dynamo=True, verbose=False,
        )  # fmt: skip
        assert program is not None
        temporary.write_bytes(program.model_proto.SerializeToString())
        onnx.checker.check_model(str(temporary))
