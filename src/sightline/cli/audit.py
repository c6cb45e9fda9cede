"""``sightline audit``: what a model looks at, class by class, and what of that is a shortcut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightline.cli import options as opt
from sightline.cli.console import console, print_json, timed_progress
from sightline.cli.session import load_model
from sightline.errors import ParameterError

if TYPE_CHECKING:
    from sightline.batch.audit.check import Check, Flips
    from sightline.batch.audit.results import Audit
    from sightline.batch.store import Store

__all__ = ["EXAMPLES", "audit_command"]

EXAMPLES = """\b
Examples:
  sightline audit store
  sightline audit store --method grad_cam --out audit
  sightline audit store --model net.h5 --labels names.txt --json
  sightline audit store --check 0
"""
_MOST_ROWS = 40

StoreUri = Annotated[
    str, typer.Argument(metavar="STORE", help="A store that sightline batch wrote.", show_default=False)
]
Grouping = Annotated[
    Literal["class", "target", "none"],
    typer.Option("--by", help="What is clustered together: a predicted class, an asked target, or all."),
]
OneModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="The model, where it is not found by the name in the store.", show_default=False
    ),
]
OneMethod = Annotated[
    str | None, typer.Option("--method", "-M", help="Whose maps, where the store holds several methods'.")
]
Images = Annotated[
    int, typer.Option("--check", min=0, help="Cover so many images of each strategy, and as many others; 0: do not.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write contact sheets, lists and a page there.", metavar="DIR")
]


@opt.grouped
def audit_command(
    store: StoreUri,
    loading: opt.Loading,
    by: Grouping = "class",
    method: OneMethod = None,
    model: OneModel = None,
    check: Images = 100,
    out: Out = None,
    json: opt.Json = False,
) -> None:
    """Cluster a store's explanations, name odd strategies, and ask the model whether it takes shortcuts."""
    from sightline.batch.audit.run import audit
    from sightline.batch.store import open_store

    opened = open_store(store)
    named = model or (_only_model(opened) if loading != opt.Loading() else None)
    loaded = None if named is None else load_model(named, loading)
    found = audit(opened, loaded, method=method, by=by, check=check, seed=loading.seed, progress=timed_progress)
    files = None if out is None else found.save(out)
    if json:
        print_json(found.to_dict() | {"files": files})
    else:
        _print(found, files)
    raise typer.Exit(2 if found.pictures.lost else 0)


def _only_model(store: Store) -> str:
    """Return the model of a store's rows, for options of how it is loaded."""
    held = sorted(set(store.read(["model"])["model"].to_pylist()))
    if len(held) != 1:
        raise ParameterError(f"the store holds explanations of {len(held)} models; choose one with --model.")
    return str(held[0])


def _print(found: Audit, files: dict[str, Any] | None) -> None:
    screen = console()
    for line in found.findings:
        screen.print(line)
    screen.print(_clusters(found))
    if found.found:
        screen.print(_strategies(found))
    for text in found.notes:
        screen.print(f"note: {text}")
    if files is not None:
        screen.print(
            f"contact sheets ({len(files['sheets'])}), lists of images ({len(files['images'])}) → {files['report']}"
        )


def _new_table(title: str, headings: list[str], left: int) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for n, heading in enumerate(headings):
        table.add_column(heading, justify="left" if n < left else "right", overflow="fold")
    return table


def _clusters(found: Audit) -> Any:
    from rich.text import Text

    from sightline.batch.audit.words import place_text

    headings = ["class", "cluster", "images", "separation", "eigengap", "HDBSCAN", "border", "spread", "hottest"]
    table = _new_table(f"clusters of {found.settings['method']} maps", headings, 1)
    table.columns[-1].justify = "left"
    shown = 0
    for c in found.classes:
        name = Text(c.group.label)
        if c.clustering is None:
            table.add_row(name, "–", str(len(c.group.rows)), *["–"] * 5, "too few to cluster")
            continue
        for k in c.clustering.clusters:
            shown += 1
            if shown > _MOST_ROWS:
                continue
            first = k.number == 1
            table.add_row(
                name if first else "",
                str(k.number),
                str(len(k.rows)),
                _number(k.separation),
                f"{c.clustering.gap:.3f}" if first else "",
                f"{c.clustering.agreement:.2f} ({c.clustering.density})" if first else "",
                f"{k.border:.0%}",
                f"{k.spread:.3f}",
                place_text(k.hot),
            )
    if shown > _MOST_ROWS:
        table.caption = f"and {shown - _MOST_ROWS} more clusters: --json has all"
    return table


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.2f}"


def _strategies(found: Audit) -> Any:
    from rich.text import Text

    headings = ["class", "odd", "verdict", "images", "covered", "elsewhere", "other images", "p", "put on others", "p"]
    table = _new_table("what is odd, and how many predictions change when it is covered", headings, 3)
    for f in found.found:
        c = f.check
        told = ["–"] * 6 if c is None else _numbers(c)
        style = "bold red" if f.verdict == "shortcut" else "dim"
        table.add_row(
            Text(f.strategy.label),
            ", ".join(f.strategy.kinds),
            Text(f.verdict, style),
            str(len(f.strategy.rows)),
            *told,
        )
    return table


def _numbers(c: Check) -> list[str]:
    counts = [_flips(f) for f in (c.here, c.elsewhere, c.others)]
    return [*counts, _p(c.p), _flips(c.stamped), _p(c.p_stamped) if c.stamped.of else "–"]


def _flips(flips: Flips) -> str:
    return f"{flips.changed}/{flips.of}" if flips.of else "–"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
