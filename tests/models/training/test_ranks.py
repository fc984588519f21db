"""Processes that share a batch: one of them is killed, and the run goes on."""

import json
import os
import subprocess
import sys

import pytest

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
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_leaves_a_run_that_goes_on(tmp_path, rank):
    """With both ranks again it ends as it would have ended, bit by bit."""
    from fouroptics import toml

    told = recipe(**{"train.epochs": 4, "train.batch": 16, "distill.loss": "none"})
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
