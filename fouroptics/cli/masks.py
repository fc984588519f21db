"""``fouroptics masks``: mask sets made, looked at, checked and compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fouroptics.cli.arguments import Changes, Json, Size, Threads, changed, pair, say
from fouroptics.cli.progress import bar
from fouroptics.errors import InputError

if TYPE_CHECKING:
    from fouroptics.masks import MaskSet
    from fouroptics.masks.limits import Limits

app = typer.Typer(no_args_is_help=True, help="Mask sets: from kernels to a file, and what is in one.")
File = Annotated[Path, typer.Argument(help="A mask set, such as masks.h5.")]
RulesFile = Annotated[Path | None, typer.Option("--rules", help="A shop's design rules, a TOML file.")]
Rule = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="KEY=VALUE", help='A design rule, such as min_feature="2 um".'),
]

WhichPlane = Annotated[int | None, typer.Option("--plane", min=0, help="Of a set of several planes the one meant.")]


@app.command("from-kernels")
def from_kernels(
    kernels: Annotated[Path, typer.Argument(help="A .npy, .npz or .safetensors file of kernels [out, in, y, x].")],
    bench: Annotated[str, typer.Option(help="A bench file, or the name of a shipped bench.")],
    size: Size = "64x64",
    key: Annotated[str, typer.Option(help="Which array of the file; left out: the only one of four dimensions.")] = "",
    readout: Annotated[str, typer.Option(help="intensity, pair_intensity, homodyne or interference.")] = "intensity",
    stop: Annotated[bool, typer.Option(help="Put the bench's stop into the Fourier plane.")] = False,
    title: Annotated[str, typer.Option(help="A few words on what the set is for.")] = "",
    out: Annotated[Path, typer.Option(help="The mask set to write; an earlier one is replaced.")] = Path("masks.h5"),
    changes: Changes = None,
    rules: RulesFile = None,
    rule: Rule = None,
    tolerances: Annotated[str, typer.Option(help="A tolerances file, or a shipped one's name: one sigma each.")] = "",
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Encode kernels on a bench's mask device and write the set; says how faithful the masks are."""
    import torch

    from fouroptics.bench import Bench
    from fouroptics.correlator import Correlator4f, fidelity
    from fouroptics.imperfections import Tolerances
    from fouroptics.masks import MaskSet
    from fouroptics.masks.kernels import read

    _refuse_foreign(out, as_json)
    torch.set_num_threads(threads)
    given = read(kernels, key)
    bank = Correlator4f.from_kernels(
        given,
        Bench.load(bench).replace(changed(changes)),
        pair(size, "size"),
        masks="device",
        layout="auto",
        readout=readout,
        stop=stop,
    )
    worth = fidelity.report(bank)
    spread = Tolerances.load(tolerances) if tolerances else None
    masks = MaskSet.from_correlator(bank, title=title or kernels.stem, rules=_limits(rules, rule), tolerances=spread)
    _save(masks, out, as_json)
    from fouroptics.masks import show

    text = f"{show.table(masks)}\n\n{bank.layout_why}\n\n{worth}\n\nwritten to {out}"
    say(text, show.data(masks) | {"fidelity": worth.data, "layout_why": bank.layout_why, "out": str(out)}, as_json)


@app.command()
def inspect(
    file: File,
    png: Annotated[Path | None, typer.Option(help="A folder for a picture of each tile; it must not exist.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="How many tiles are drawn at the most.")] = 64,
    as_json: Json = False,
) -> None:
    """What is in a mask set."""
    from fouroptics.files import whole_folder
    from fouroptics.masks import show

    masks = _load(file, as_json)
    found, text = show.data(masks), show.table(masks)
    if png is not None:
        with whole_folder(png, {"masks": masks.uuid}) as folder:
            drawn = len(show.pictures(masks, folder, tiles))
        found, text = found | {"png": str(png)}, f"{text}\n\n{drawn} pictures in {png}"
    say(text, found, as_json)


@app.command()
def validate(
    file: File, rules: RulesFile = None, rule: Rule = None, plane: WhichPlane = None, as_json: Json = False
) -> None:
    """Whether a file is intact and, by rules given or its own, whether a shop can write it; status 1 if not."""
    from fouroptics.masks import show

    masks = _load(file, as_json, plane)
    told = {"valid": True} | show.data(masks)
    text = f"{file}: whole and unchanged, as it was written"
    asked = _limits(rules, rule, masks.rules)
    if asked is None:
        say(text, told, as_json)
        return
    from fouroptics.masks.rules import check

    report = check(masks, asked)
    say(f"{text}\n\n{report}", told | {"design_rules": report.data}, as_json)
    if report.findings:
        raise typer.Exit(1)


@app.command()
def repair(
    file: File,
    out: Annotated[Path, typer.Option(help="The mask set to write; another one than was given.")],
    rules: RulesFile = None,
    rule: Rule = None,
    plane: WhichPlane = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Bring a plate within design rules; says what that does to its kernels. Status 1 where rules are still broken."""
    from fouroptics.correlator import fidelity
    from fouroptics.masks import repair, show
    from fouroptics.masks.limits import Limits

    if out.resolve() == file.resolve():
        raise InputError("is the set to be repaired", where="--out", mend="give another name: the original stays")
    _refuse_foreign(out, as_json)
    masks = _load(file, as_json, plane)
    limits = _limits(rules, rule, masks.rules) or Limits()
    import torch

    torch.set_num_threads(threads)
    made = repair.repaired(masks, limits)
    _save(made.masks, out, as_json)
    alike = [show.likeness(one) for one in (masks, made.masks)]
    worth = [fidelity.report(one.correlator()).real.tolist() for one in (masks, made.masks)]
    pixels = math.prod(masks.alone.levels.shape)
    lines = [
        f"before: {made.before}",
        f"after: {made.after}",
        f"{made.changed} of {pixels} pixels changed",
        "output  kernel's taps, before → after   responses to natural pictures, before → after",
        *(
            f"{n:>6}  {taps[0]:>20.4f} → {taps[1]:.4f}   {seen[0]:>31.4f} → {seen[1]:.4f}"
            for n, (taps, seen) in enumerate(zip(zip(*alike, strict=True), zip(*worth, strict=True), strict=True))
        ),
        f"written to {out}",
    ]
    told = {
        "before": made.before.data,
        "after": made.after.data,
        "pixels": pixels,
        "changed": made.changed,
        "kernel_likeness": {"before": alike[0].tolist(), "after": alike[1].tolist()},
        "response_correlation": {"before": worth[0], "after": worth[1]},
        "out": str(out),
    }
    say("\n".join(lines), told, as_json)
    if made.after.findings:
        raise typer.Exit(1)


@app.command()
def diff(one: File, other: Annotated[Path, typer.Argument(help="Another mask set.")], as_json: Json = False) -> None:
    """What differs between two mask sets; exit status 1 where something does."""
    from fouroptics.masks import show

    found = show.difference(_load(one, as_json), _load(other, as_json))
    say(json.dumps(found, indent=2, ensure_ascii=False) if found else "nothing differs", found, as_json)
    if found:
        raise typer.Exit(1)


@app.command()
def export(
    file: File,
    process: Annotated[
        str, typer.Option(help="slm or dmd (frames), etched or chrome (GDSII, OASIS, traveller), grey (heights).")
    ],
    out: Annotated[Path, typer.Option(help="A folder; an earlier export in it is replaced.")] = Path("export"),
    mirror: Annotated[bool, typer.Option(help="Frames with left and right changed, for reflection.")] = False,
    turn: Annotated[int, typer.Option(help="Degrees that frames are turned by: 0, 90, 180 or 270.")] = 0,
    plane: WhichPlane = None,
    dose: Annotated[Path | None, typer.Option(help="A writer's curve: dose and depth_nm, or transmittance.")] = None,
    rules: RulesFile = None,
    rule: Rule = None,
    as_json: Json = False,
) -> None:
    """Write what a modulator or a foundry takes, with a JSON file that says what it is."""
    import hashlib

    import fouroptics
    from fouroptics.errors import check_choice
    from fouroptics.files import whole_folder
    from fouroptics.masks import bitmap, etch, gds, heights, traveller
    from fouroptics.masks.build import check_devices
    from fouroptics.masks.limits import Limits
    from fouroptics.masks.rules import check

    kinds = {
        "slm": (bitmap.SLM,), "dmd": (bitmap.DMD,), "etched": (etch.ETCHED,), "chrome": (etch.CHROME,),
        "grey": (etch.ETCHED, heights.GREY),
    }  # fmt: skip
    check_choice("--process", process, tuple(kinds))
    framed, layout = process in ("slm", "dmd"), process in ("etched", "chrome")
    _refuse_idle({"--mirror": mirror, "--turn": turn}, framed, process)
    _refuse_idle({"--dose": dose}, process == "grey", process)
    _refuse_idle({"--rules": rules, "--rule": rule}, layout, process)
    masks = _load(file, as_json, plane)
    check_devices(masks)
    kind = masks.alone.kind
    if kind not in kinds[process]:
        fitting = " or ".join(name for name, due in kinds.items() if kind in due) or "it cannot be exported yet"
        made = " or ".join(kinds[process])
        raise InputError(f"{process} makes {made} masks, these are {kind}", where="--process", mend=fitting)
    with file.open("rb") as raw:
        source = {"set": masks.uuid, "sha256": hashlib.file_digest(raw, "sha256").hexdigest(), "title": masks.title}
    with whole_folder(out, {"process": process, "set": masks.uuid}) as folder:
        if framed:
            told = bitmap.write(masks, folder, mirror=mirror, turn=turn)
        elif process == "grey":
            told = heights.write(masks, folder, dose)
        else:
            limits = _limits(rules, rule, masks.rules) or Limits()
            told = gds.write(masks, folder, limits=limits)
            report = check(masks, limits)
            traveller.write(masks, folder, report)
            told |= {"design_rules": report.data}
        told = {"source": source, "made_by": f"fouroptics {fouroptics.__version__}", "process": process} | told
        (folder / "masks.json").write_text(json.dumps(told, indent=2, ensure_ascii=False), encoding="utf-8")
        files = sorted(path.name for path in folder.iterdir())
    say(f"{len(files)} files in {out}: {', '.join(files[:6])}{' …' if len(files) > 6 else ''}", told, as_json)


def _refuse_idle(options: dict[str, Any], useful: bool, process: str) -> None:
    """An option that a process does not heed is a mistake."""
    idle = [name for name, value in options.items() if value and not useful]
    if idle:
        raise InputError(f"--process {process} has no use for it", where=idle[0], mend="leave it out")


def _limits(file: Path | None, pairs: list[str] | None, own: Limits | None = None) -> Limits | None:
    """The rules that are given; single ones change a set's own. None where nobody asks for any."""
    from fouroptics.masks.limits import Limits

    if file is None and not pairs:
        return own
    return Limits.load(file, changed(pairs, "--rule", 'min_feature="2 um"'), own)


def _load(file: Path, quiet: bool, plane: int | None = None) -> MaskSet:
    from fouroptics.masks import MaskSet

    with bar(f"checking {file}", quiet) as told:
        masks = MaskSet.load(file, progress=told)
    return masks if plane is None else masks.select(plane=plane)


def _save(masks: MaskSet, out: Path, quiet: bool) -> None:
    with bar(f"writing {out}", quiet) as told:
        masks.save(out, progress=told)


def _refuse_foreign(out: Path, quiet: bool) -> None:
    """Only a mask set is replaced by one."""
    if not out.exists():
        return
    try:
        _load(out, quiet)
    except InputError:
        what, mend = "exists and is no mask set", "give --out another name"
        raise InputError(what, where=str(out), mend=mend) from None
