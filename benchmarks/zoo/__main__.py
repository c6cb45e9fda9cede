"""Every architecture family times every method: right, refused with a reason, or wrong; with two peers beside it.

    python -m benchmarks.zoo [--only torchvision,timm,keras,hf] [--models PATTERN] [--methods a,b] [--giants]
                             [--no-peers] [--json FILE] [--markdown FILE] [--threads 2]

Weights are random, with zero heads drawn anew and batch norms fitted, and pictures small. With ``--json`` each
network is one line of the file, written as soon as it is measured; those that the file has are not measured again.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from sightline.methods import METHODS

from .cells import BAD, Result, measure, referenced
from .nets import SOURCES, Case, cases
from .report import markdown, report


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    console = Console(width=None if Console().is_terminal else 160)
    known = _read(arguments.json)
    results = []
    started = time.perf_counter()
    for case in track(_chosen(arguments), "networks", console=console):
        done = known.get((case.source, case.name))
        result = done or measure(case, arguments.methods, with_peers=arguments.peers)
        if done is None:
            _write(arguments.json, result)
            console.print(_line(result), highlight=False, markup=False, soft_wrap=True)
        results.append(result)
        gc.collect()
    report(results, console)
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(results) + "\n", encoding="utf-8")
    unknown = [m for m in METHODS if m not in referenced()]
    console.print(f"Methods without a reference here: {', '.join(unknown) or 'none'}", highlight=False)
    console.print(f"torch {torch.__version__}, {arguments.threads} threads, {time.perf_counter() - started:.0f} s")
    return int(any(c.outcome in BAD for r in results for c in r.cells))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(SOURCES), help="sources, separated by commas")
    parser.add_argument("--models", default="*", help="names, as patterns separated by commas")
    parser.add_argument("--methods", type=lambda text: text.split(","), help="methods (all that have a reference)")
    parser.add_argument("--giants", action="store_true", help="also those with hundreds of millions of weights")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, help="a file of results to go on with")
    parser.add_argument("--markdown", type=Path, help="a file for the counts as Markdown tables")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    patterns = arguments.models.split(",")
    every = [c for source in arguments.only.split(",") for c in cases(source)]
    return [c for c in every if (arguments.giants or not c.giant) and any(fnmatch.fnmatch(c.name, p) for p in patterns)]


def _read(file: Path | None) -> dict[tuple[str, str], Result]:
    if file is None or not file.exists():
        return {}
    found = (Result.from_dict(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())
    return {(r.source, r.name): r for r in found}


def _write(file: Path | None, result: Result) -> None:
    if file is not None:
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(result.to_dict()) + "\n")


def _line(r: Result) -> str:
    if r.failed:
        return f"{r.source}/{r.name}: not built: {r.failed}"
    bad = [f"{c.method} {c.outcome}: {c.why}" for c in r.cells if c.outcome in BAD]
    right = sum(c.outcome == "right" for c in r.cells)
    said = f"{r.source}/{r.name}: {right} of {len(r.cells)} right, layer {r.layer} {r.grid} {r.question} {r.seconds} s"
    return "\n  ".join([said, *bad])


if __name__ == "__main__":
    raise SystemExit(main())
