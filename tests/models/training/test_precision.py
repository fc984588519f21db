"""Half precision in training: where it pays, and where it does not."""

import pytest
import torch
from fouroptics.models.training import Recipe, metrics, train
from fouroptics.models.training.metrics import scores_of

from fouroptics.tensors import load_tensors

SHORT = {
    "seeds": [0],
    "data.options": {"count": 120},
    "teacher.epochs": 1,
    "train.epochs": 1,
    "train.amp": True,
    "distill.also_without": False,
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))


@pytest.mark.parametrize("pays", [True, False])
def test_half_precision_is_used_where_it_pays_alone(pays, network, monkeypatch):
    monkeypatch.setattr(metrics, "halves_pay", lambda device: pays)
    pictures = torch.rand(5, 3, 4, 4)
    found, exact = scores_of(network, pictures, amp=True), network(pictures)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact) != pays
    torch.testing.assert_close(found, exact, atol=2e-2, rtol=2e-2)  # 8 bits of a number of about 1


def test_a_processor_that_halves_make_no_faster_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "halves_pay", lambda device: False)
    with pytest.warns(UserWarning, match=r"train\.amp: half precision is no faster"):
        halved = train(Recipe.load("shapes-demo", SHORT), tmp_path / "amp")
    single = train(Recipe.load("shapes-demo", {**SHORT, "train.amp": False}), tmp_path / "single")
    students = [load_tensors(run.seed(0) / "student.safetensors")[0] for run in (halved, single)]
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())
