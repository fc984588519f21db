"""``make speed``: how fast the heart is, against slower ways of doing the same thing in the same run."""

import sys

import torch

from tests.speed import bank, draws, fold, machine, masks, peers, reading, scaling


def main() -> int:
    torch.set_num_threads(1)
    print(machine.line())
    bank.main()
    scaling.main()
    reading.main()
    draws.main()
    masks.main()
    fold.main()
    peers.main()
    print(machine.load())
    return 0


if __name__ == "__main__":
    sys.exit(main())
