"""A student's electronics in another program."""

import sys

import numpy as np
import pytest
import torch
from fouroptics.models import SCLC
from fouroptics.models.backends import FC, Conv
from fouroptics.models.training.export import export_backend

import fouroptics as fo


@pytest.mark.parametrize("backend", [FC((16,), 0.5), Conv((6, 5))])
def test_onnx_runs_as_torch_does(tmp_path, backend):
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    student = SCLC(
        (3, 8), 5, None, 16, readout="homodyne", compand="rectify", sensor_pool=4, backend=backend, classes=3
    )
    pictures = torch.rand(5, 3, 16, 16)
    student.normalise(pictures)
    student.eval()
    path = tmp_path / "a µ" / "backend.onnx"
    path.parent.mkdir()
    export_backend(student, path)
    session = runtime.InferenceSession(str(path))
    with torch.no_grad():
        readings, due = student.readings(pictures), student(pictures)
    for count in (5, 1):
        (found,) = session.run(None, {"readings": readings[:count].numpy()})
        assert np.allclose(found, due[:count].numpy(), atol=1e-5)
    assert [one.name for one in path.parent.iterdir()] == ["backend.onnx"]


def test_a_missing_onnx_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    student = SCLC((3, 4), 3, None, 8, readout="intensity", classes=2)
    with pytest.raises(fo.InputError, match=r"onnx is not installed; pip install \"fouroptics\[onnx\]\""):
        export_backend(student, tmp_path / "x.onnx")
