"""The command ``fouroptics``: its verbs, and how it fails.

Exit status: 0 done, 1 failed while running or a check that found something, 2 the input is wrong, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import fouroptics
from fouroptics.cli import bench, demo, init, masks, simulate, train
from fouroptics.errors import FailedRun, InputError

INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Design 4f optical neural networks: from a bench with units to masks that a device can show.",
)
app.add_typer(bench.app, name="bench")
app.add_typer(masks.app, name="masks")
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("simulate")(simulate.simulate)
app.command("train")(train.train)
app.command("evaluate")(train.evaluate)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fouroptics {fouroptics.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; whatever the user did wrong is told in one line, without a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without ✓ or µ is no reason to fail
    as_json = "--json" in arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            status = app(arguments, prog_name="fouroptics", standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        return _tell(error, 2, as_json)
    except (
        BrokenPipeError,
        SystemExit,
    ):  # whoever read us has gone; typer turns that into an exit of its own
        return _hang_up()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except (OSError, MemoryError, FailedRun) as error:
        return _tell(InputError(str(error) or type(error).__name__), 1, as_json)
    except Exception as error:
        if not hasattr(error, "format_message"):  # a fault of ours: its traceback is wanted
            raise
        return _tell(_usage(error), 2, as_json) if error.format_message() else 2  # empty: help was shown instead
    if status == INTERRUPTED:
        return _tell(InputError("stopped by the keyboard"), INTERRUPTED, as_json)
    return int(status or 0)


def _note(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line for people."""
    print(f"fouroptics: note: {message}", file=sys.stderr)


def _hang_up() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _usage(error: Exception) -> InputError:
    """What the argument parser complains of, in one line."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fouroptics"
    what = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    return InputError(what, where=command, mend=f"see {command} --help")


def _tell(error: InputError, status: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"what": error.what, "where": error.where, "mend": error.mend}}))
    else:
        print(f"fouroptics: {error}", file=sys.stderr)
    return status
