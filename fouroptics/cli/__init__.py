"""The roof: one module a verb. Nothing imports it, and it loads no library before a verb needs it."""

from fouroptics.cli.main import main

__all__ = ["main"]
