"""``make speed``: how fast the heart is, against slower ways of doing the same thing in the same run."""

import sys

from tests.speed import bank, machine, scaling


def main() -> int:
    print(machine.line())
    bank.main()
    scaling.main()
    print(machine.load())
    return 0


if __name__ == "__main__":
    sys.exit(main())
