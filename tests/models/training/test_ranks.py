"""Processes that share a batch: one of them is killed, and the run goes on."""

import json
import os
import subprocess
import sys

import pytest
import torch
from fouroptics.models.training import ranks
from torch import nn

from tests.models.training.test_loop import TWO, contents, recipe, same

LOST = """
def lost(*_):
    lost.steps += 1
    if lost.steps == 13 and os.environ["RANK"] == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
lost.steps = 0
loop._APART = 0.0
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_that_is_killed_leaves_a_run_that_goes_on(tmp_path, rank):
    """With both ranks again it ends as it would have ended, bit by bit."""
    from fouroptics import toml

    backend = {"kind": "conv", "hidden": [8]}  # whose batch norms see another part in each process
    told = recipe(**{"train.epochs": 4, "train.batch": 16, "distill.loss": "none", "student.backend": backend})
    script, text = tmp_path / "two.py", toml.text(told.to_dict())
    script.write_text(
        "import os, signal\n"
        + TWO.replace(
            "from fouroptics import toml\n",
            "from fouroptics import toml\nfrom fouroptics.models.training import loop\n" + LOST,
        ).replace('tuple("abcd")))', 'tuple("abcd")), tell=lost)')
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    options = {"capture_output": True, "timeout": 120}
    assert subprocess.run([*torchrun, str(tmp_path / "run"), text, str(rank)], **options).returncode != 0
    assert not (tmp_path / "run" / "seed-0" / "student-alone.safetensors").exists()
    for out in ("run", "whole"):
        subprocess.run([*torchrun, str(tmp_path / out), text, "none"], check=True, **options)
    same(contents(tmp_path / "run"), contents(tmp_path / "whole"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "seed-0" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]


FOLDER = """
import sys
import torch
torch.set_num_threads(1)
from fouroptics import toml
from fouroptics.models.training import Recipe, readers, train
decode = readers.picture_of
def told(file, *rest, **more):
    with open(sys.argv[1] + ".decoded", "a") as log:
        log.write(f"{file}\\n")
    return decode(file, *rest, **more)
readers.picture_of = told
train(Recipe.from_dict(toml.parse(sys.argv[2], "test")), sys.argv[1])
"""


def test_the_first_of_two_ranks_decodes_for_both(tmp_path, monkeypatch):
    """From the cache that it leaves the other takes them; a folder that is none ends both, in the first one's words."""
    from PIL import Image

    from fouroptics import toml

    monkeypatch.setenv("FOUROPTICS_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        path = tmp_path / "pictures" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (5 * number, 9, 200 * (number % 2))).save(path)
    script, out = tmp_path / "two.py", tmp_path / "run"
    script.write_text(FOLDER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    more = {"data.reader": "folders", "data.options": {}, "distill.loss": "none", "train.epochs": 1, "train.batch": 8}
    for place, status in ((tmp_path / "pictures", 0), (tmp_path / "nowhere", 1)):
        text = toml.text(recipe(**more, **{"data.path": str(place)}).to_dict())
        done = subprocess.run([*torchrun, str(out), text], capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
    assert "nowhere: there is no such folder" in done.stderr
    assert len((tmp_path / "run.decoded").read_text().splitlines()) == 40


def test_summed_gradients_lie_as_their_parameters_do(monkeypatch):
    """A fused step walks through memory and asks for no strides; a teacher's kernels are channels last."""
    monkeypatch.setattr(ranks.dist, "all_reduce", lambda _: None)
    weights = {}
    for world in (1, 2):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, fused=True)
        for _ in range(2):
            network.zero_grad()
            network(torch.rand(2, 3, 8, 8)).square().sum().backward()
            ranks.Ranks(0, world).add_gradients(network, torch.zeros((), dtype=torch.float64))
            assert network.weight.grad.stride() == network.weight.stride()
            optimiser.step()
        weights[world] = network.weight.detach()
    assert torch.allclose(weights[1], weights[2], atol=1e-6)
