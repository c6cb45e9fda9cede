"""``sightline app``: the explanations in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli import options as opt
from sightline.errors import ParameterError

__all__ = ["EXAMPLES", "app_command"]

EXAMPLES = """\b
Examples:
  sightline app
  sightline app --model run --model resnet50 --reports results
  sightline app --port 9000 --upload-mb 100
"""

Named = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A model to offer beside the embedded ones, by name or file; may be repeated.",
        show_default=False,
    ),
]
Host = Annotated[
    str, typer.Option("--host", help="The address to listen on; any but 127.0.0.1 lets others in, without a password.")
]
Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="The port; by default the first free one from 8501.")
]
UploadMb = Annotated[int, typer.Option("--upload-mb", min=1, max=10_000, help="Refuse larger uploads, in megabytes.")]
Megapixels = Annotated[int, typer.Option("--megapixels", min=1, max=1000, help="Refuse larger pictures.")]
Seconds = Annotated[int, typer.Option("--model-seconds", min=1, help="How long an uploaded model may take to load.")]
Gigabytes = Annotated[float, typer.Option("--model-gb", min=0.5, help="How much memory it may take for that.")]
KeepSeconds = Annotated[
    int, typer.Option("--keep-seconds", min=1, help="How long the uploads of a page that was closed are kept.")
]
Reports = Annotated[
    Path, typer.Option("--reports", metavar="DIR", help="The folder whose reports and training runs are shown.")
]


def app_command(
    model: Named = None,
    labels: opt.LabelsFile = None,
    reports: Reports = Path(),
    host: Host = "127.0.0.1",
    port: Port = None,
    upload_mb: UploadMb = 20,
    megapixels: Megapixels = 50,
    model_seconds: Seconds = 60,
    model_gb: Gigabytes = 4.0,
    keep_seconds: KeepSeconds = 60,
) -> None:
    """Open the app's server: explain, compare, check, ask and learn in a browser. Ctrl-C stops it."""
    from sightline.app.serve import serve
    from sightline.app.settings import Settings

    if not reports.is_dir():
        raise ParameterError(f"--reports {reports}: there is no such folder; give one that is there.")
    labelled = None if labels is None else str(labels)
    settings = Settings(
        upload_mb,
        megapixels,
        model_seconds,
        model_gb,
        keep_seconds,
        tuple(model or ()),
        labelled,
        str(reports.resolve()),
    )
    serve(settings, host, port)
