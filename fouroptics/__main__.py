"""``python -m fouroptics`` is ``fouroptics``."""

import sys

from fouroptics.cli import main

sys.exit(main())
