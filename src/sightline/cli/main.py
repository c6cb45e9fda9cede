"""The entry point: commands are registered here, and errors become one line and an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Annotated, Any

import typer

from sightline.cli import app as browser
from sightline.cli import (
    audit,
    batch,
    benchmark,
    compare,
    concepts,
    demo,
    errors,
    evaluate,
    explain,
    export,
    listing,
    optimized,
    query,
    show,
    train,
)
from sightline.errors import SightlineError

__all__ = ["app", "main"]

app = typer.Typer(
    name="sightline",
    help="Why did this image classifier say that, and can the answer be believed?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("explain", short_help="Explain images: pictures, numbers and predictions.", epilog=explain.EXAMPLES)(
    explain.explain_command
)
app.command("compare", short_help="Lay methods, models and targets out in one picture.", epilog=compare.EXAMPLES)(
    compare.compare_command
)
app.command("evaluate", short_help="Measure which methods can be trusted, over a folder.", epilog=evaluate.EXAMPLES)(
    evaluate.evaluate_command
)
app.command("batch", short_help="Explain a whole data set into a store.", epilog=batch.EXAMPLES)(batch.batch_command)
app.command("query", short_help="Ask a store of explanations in SQL.", epilog=query.EXAMPLES)(query.query_command)
app.command("show", short_help="Draw rows of a store on a contact sheet.", epilog=show.EXAMPLES)(show.show_command)
app.command("export", short_help="Write rows of a store as PNG, NPZ, COCO, a data set.", epilog=export.EXAMPLES)(
    export.export_command
)
app.command("errors", short_help="Say what a model takes for what, and explain it.", epilog=errors.EXAMPLES)(
    errors.errors_command
)
app.command("audit", short_help="Find what a model cheats on, in a store of explanations.", epilog=audit.EXAMPLES)(
    audit.audit_command
)
app.command("train", short_help="Train a classifier on a folder of pictures.", epilog=train.EXAMPLES)(
    train.train_command
)
app.command("benchmark", short_help="Test methods where the right answer is known.", epilog=benchmark.EXAMPLES)(
    benchmark.benchmark_command
)
app.command("concepts", short_help="Find what a class is made of, in images of it.", epilog=concepts.EXAMPLES)(
    concepts.concepts_command
)
app.command("tcav", short_help="Test whether a class depends on given concepts.", epilog=concepts.TCAV_EXAMPLES)(
    concepts.tcav_command
)
app.command(
    "maximize", short_help="Draw what a class or a channel answers to most.", epilog=optimized.MAXIMIZE_EXAMPLES
)(optimized.maximize_command)
app.command("maximise", hidden=True, epilog=optimized.MAXIMIZE_EXAMPLES)(optimized.maximize_command)
app.command(
    "counterfactual",
    short_help="Swap regions between two images until the answer changes.",
    epilog=optimized.COUNTERFACTUAL_EXAMPLES,
)(optimized.counterfactual_command)
app.command("demo", short_help="Explain an honest and a cheating model; no network.", epilog=demo.EXAMPLES)(
    demo.demo_command
)
app.command("app", short_help="Open the app in a browser.", epilog=browser.EXAMPLES)(browser.app_command)
app.command("methods", short_help="List the methods.")(listing.methods_command)
app.command("metrics", short_help="List the metrics.")(evaluate.metrics_command)
app.command("models", short_help="List the models.")(listing.models_command)
app.command("layers", short_help="List a model's layers, the default for CAMs marked.", epilog=listing.LAYERS_EXAMPLES)(
    listing.layers_command
)


_INTERRUPTED = 130
# Typer keeps its own copy of click since 0.20, so the class is taken from what it exports.
_USAGE_ERRORS: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sightline {version('sightline')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Why did this image classifier say that, and can the answer be believed?"""


def main() -> None:
    """Run the command line: exit 0 when all was done, 2 when an input or argument failed, 130 on Ctrl-C."""
    try:
        code = app(standalone_mode=False)
    except SightlineError as error:
        code = _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except _USAGE_ERRORS as error:
        said = " ".join(error.format_message().split())  # the choices of a missing option come on a line each
        code = _fail(said, error.exit_code)
    if code == _INTERRUPTED:  # also what Typer itself makes of Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends what is left to do without a word
        typer.echo("interrupted", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 2) -> int:
    if "--json" in sys.argv:
        usual: dict[str, Any] = {"predictions": {}, "explanations": []} if sys.argv[1] == "explain" else {}
        typer.echo(json.dumps(usual | {"errors": [{"image": None, "message": message}]}))
    typer.echo(f"error: {message}", err=True)
    return code
