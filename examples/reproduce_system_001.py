"""Compute the numbers that were recorded for "XAI methods for CNN" (2021) again, and show where they came from.

    pip install "sightline[keras]"
    python examples/reproduce_system_001.py --data ../shared/data     # half an hour on two cores
    python examples/reproduce_system_001.py --tiles 124 --sise 0      # three minutes

The system explained two Keras networks, one on MNIST-1D and one on histology tiles (HMT), with Grad-CAM and
integrated gradients, and compared the two by how far the predicted class falls when only the best part of the input
is kept. Reading the networks, predictions, gradients, Grad-CAM and SISE are Sightline's; the metric and the system's
own treatment of the maps, flaws included, are below.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import ndimage

import sightline
from sightline.demo.mnist1d import make_mnist1d
from sightline.evaluation.metrics.confidence import top_fraction

HMT_SHARE, MNIST_SHARE = 0.9, 0.3  # of the input's points, which are kept
HMT_LAYER, MNIST_LAYER, SISE_LAYER = "max_pooling2d_1", "conv1d_2", "conv2d_3"
STEPS = 10  # points of the integral, as the system took them; probabilities need many more
FINE_STEPS, FINE_TILES = 50, 31
TILES, SISE_TILES = 496, 480  # the latter in 15 batches of 32, what is over left out


# --- the metric ---------------------------------------------------------------------------------------------


def calculate_drop_increase(
    model: sightline.Model, x: torch.Tensor, before: torch.Tensor, maps: np.ndarray, share: float
) -> np.ndarray:
    """Return each input's drop of the predicted class's probability, and whether it rose instead: (N, 2).

    Only the best share of the points is kept; the others become 0, which is black, or the mean of a signal. Nothing is
    kept of a map that is the same everywhere, or NaN; the metric top_fraction_drop has no value then.
    """
    mask = top_fraction(torch.from_numpy(maps), share).unsqueeze(1)
    best = before.argmax(1, keepdim=True)
    y, o = (p.gather(1, best)[:, 0].double() for p in (before, probabilities(model, x * mask)))
    drop = (y - o) / (y + 1e-100)
    return torch.stack([drop * (drop > 0), 1.0 * (drop < 0)], 1).numpy()


def probabilities(model: sightline.Model, x: torch.Tensor) -> torch.Tensor:
    """Return the model's own output for inputs (N, C, *S): (N, classes)."""
    with torch.no_grad():
        return model.module(x)


# --- the system's maps --------------------------------------------------------------------------------------


def grad_cam(model: sightline.Model, x: torch.Tensor, layer: str, output: str = "probability") -> np.ndarray:
    """Return Sightline's Grad-CAM of the predicted class at the input's size (N, *S), enlarged by cubic splines."""
    found = sightline.explain(model, x, "grad_cam", layer=layer, output=output, upsampling="spline", batch_size=len(x))
    return np.stack([e.at_input() for e in found])


def sise(model: sightline.Model, x: torch.Tensor) -> np.ndarray:
    """Return Sightline's SISE of one layer as the system's code has it: by probability, every positive map (N, *S)."""
    how = {"layer": SISE_LAYER, "output": "probability", "threshold": 0.0, "centre": False}
    return np.stack([e.attribution for e in sightline.explain(model, x, "sise", batch_size=len(x), **how)])


def stretched(maps: np.ndarray) -> np.ndarray:
    """Stretch each map to 0 to 1 as the system did; flaw: a map that is 0 everywhere becomes NaN, and keeps nothing."""
    over = (len(maps), *[1] * (maps.ndim - 1))
    with np.errstate(invalid="ignore"):
        maps = maps / maps.reshape(len(maps), -1).max(1).reshape(over)
    maps = maps - maps.reshape(len(maps), -1).min(1).reshape(over)
    return maps / (maps.reshape(len(maps), -1).max(1).reshape(over) + 1e-29)


def old_zoom(maps: np.ndarray) -> np.ndarray:
    """Zoom signals (N, L) by 1.0 as scipy did in 2021: by a spline through them, at their own points.

    Flaw: it should change nothing, but zeros become about 1e-17 of their neighbours, of either sign. That decides
    which of many zeros is among the best 30 %. Today's scipy leaves them 0, and then none of them is.
    """
    weights = [1 / 6, 4 / 6, 1 / 6]
    weights.append(1.0 - weights[0] - weights[1] - weights[2])  # 8e-17 rather than 0, in scipy too
    spline = ndimage.spline_filter1d(maps, 3, axis=1, output=np.float64, mode="mirror")
    padded = np.pad(spline, ((0, 0), (1, 2)), mode="reflect")
    taps = (w * padded[:, k : k + maps.shape[1]] for k, w in enumerate(weights))
    return sum(taps, np.zeros(maps.shape)).astype(maps.dtype)


def mean_gradients(model: sightline.Model, x: torch.Tensor, batch: int) -> np.ndarray:
    """Return the probability's gradient averaged over ten points from 0 to the input, both included: (N, C, *S).

    Flaw: this is what tf-explain calls integrated gradients; the product with the input is left out.
    """
    rule = {"rule": "endpoints", "steps": STEPS, "multiply": False}
    found = sightline.explain(
        model, x, "integrated_gradients", output="probability", batch_size=batch, chunk=batch, **rule
    )
    return np.stack([e.attribution for e in found])


def tf_explain_grey(mean: np.ndarray) -> np.ndarray:
    """Return tf-explain's picture of the mean gradients before it becomes bytes: (N, *S), 0 on average.

    Flaws: no sign is left, for magnitudes are added, and yet about half of the points become negative. 255 is the
    picture's own spread, or 1 / sqrt(points) where that is more, as it is for every tile.
    """
    grey = np.abs(mean).sum(1)
    flat = grey.reshape(len(grey), -1)
    spread = np.maximum(flat.std(1), 1 / np.sqrt(flat.shape[1]))
    return (255 * (flat - flat.mean(1)[:, None]) / spread[:, None]).reshape(grey.shape)


def bytes_on_gpu(grey: np.ndarray) -> np.ndarray:
    """Cast to bytes as TensorFlow does on a GPU: negative ones become 0. Flaw: those over 255 start again at 0."""
    return np.where(grey < 0, 0, np.trunc(grey) % 256)


def bytes_on_cpu(grey: np.ndarray) -> np.ndarray:
    """Cast to bytes as TensorFlow does on a CPU. Flaw: negative ones count back from 255: the least become bright."""
    return np.trunc(grey) % 256


def ig_variants(mean: np.ndarray, x: torch.Tensor) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the maps that one sweep's mean gradients (N, C, *S) have been made into, each (N, *S)."""
    grey = tf_explain_grey(mean)
    yield "gpu", bytes_on_gpu(grey)
    yield "cpu", bytes_on_cpu(grey)
    yield "clipped", np.clip(np.trunc(grey), 0, 255)
    yield "uncast", grey
    product = (mean * x.numpy()).sum(1)
    yield "product", product
    yield "abs product", np.abs(product)
    yield "relu product", np.maximum(product, 0)


# --- measuring ----------------------------------------------------------------------------------------------


@dataclass
class Results:
    """What one network did: predictions against labels, and drop and increase of each input for each variant."""

    classes: int
    said: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    scores: dict[str, list[np.ndarray]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, variants: Iterable[tuple[str, np.ndarray]]) -> None:
        """Add a batch's drop and increase (N, 2) for each variant."""
        for name, scores in variants:
            self.scores.setdefault(name, []).append(scores)

    def both(self, name: str) -> tuple[float, float]:
        """Return the average drop and the rate of increase of a variant."""
        drop, increase = np.concatenate(self.scores[name]).mean(0)
        return float(drop), float(increase)

    def accuracy(self) -> float:
        """Return the share of right predictions."""
        return float(np.mean(np.equal(self.said, self.labels)))

    def accuracies(self) -> tuple[float, ...]:
        """Return the share of right predictions for each class that was met."""
        right, labels = np.equal(self.said, self.labels), np.array(self.labels)
        return tuple(float(right[labels == c].mean()) for c in range(self.classes) if c in self.labels)


def measure_mnist1d(file: Path) -> Results:
    """Measure everything on the 1000 test signals."""
    data, results = make_mnist1d(), Results(10)
    single, double = sightline.load(str(file)), in_float64(file)
    exact = torch.from_numpy(data.x_test).unsqueeze(1)
    x = exact.float()
    before, before_exact = probabilities(single, x), probabilities(double, exact)
    results.said, results.labels = before.argmax(1).tolist(), data.y_test.tolist()
    cam = grad_cam(single, x, MNIST_LAYER)
    found = {
        "noise": stretched(old_zoom(cam)),
        "cam": stretched(cam),
        "logit": stretched(grad_cam(single, x, MNIST_LAYER, "logit")),
        "fine": integrated(single, x, "probability"),
        "fine logit": integrated(single, x, "logit"),
        **dict(ig_variants(mean_gradients(single, x, 100), x)),
    }
    found_exact = {
        "cam scored in float64": stretched(cam),
        "float64": stretched(grad_cam(double, exact, MNIST_LAYER)),
        "float64 logit": stretched(grad_cam(double, exact, MNIST_LAYER, "logit")),
    }
    for name, maps in found.items():
        results.add([(name, calculate_drop_increase(single, x, before, maps, MNIST_SHARE))])
    for name, maps in found_exact.items():
        results.add([(name, calculate_drop_increase(double, exact, before_exact, maps, MNIST_SHARE))])
    positive = (cam > 0).sum(1)
    results.counts = {
        "certain": int((before.amax(1) == 1).sum()),
        "empty": int((positive == 0).sum()),
        "short": int((positive < int(MNIST_SHARE * cam.shape[1])).sum()),
    }
    return results


def integrated(model: sightline.Model, x: torch.Tensor, output: str, batch: int = 50) -> np.ndarray:
    """Return Sightline's integrated gradients, channels added, with points enough to add up: (N, *S)."""
    found = sightline.explain(
        model, x, "integrated_gradients", output=output, steps=FINE_STEPS, batch_size=batch, chunk=batch
    )
    return np.stack([e.attribution.sum(0) for e in found])


def in_float64(file: Path) -> sightline.Model:
    """Load a Keras network with its layers computing in float64."""
    from keras import models  # here, for Sightline chooses the backend when it loads a network

    def changed(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras 3 has another taste in input shapes than Keras 2
        net = models.load_model(file, compile=False)
        double = models.clone_model(net, clone_function=changed)
    double.set_weights(net.get_weights())
    return sightline.load(double)


def measure_hmt(file: Path, folder: Path, tiles: int) -> Results:
    """Measure everything on that many test tiles, evenly taken from all."""
    model, files = sightline.load(str(file)), evenly(labelled(folder), tiles)
    results = Results(1 + max(c for _, c in files))
    fine = max(1, round(len(files) / FINE_TILES))
    for start in track(range(0, len(files), 4), "histology tiles", console=Console(stderr=True)):
        part = files[start : start + 4]
        x = torch.stack([tile(f) for f, _ in part])
        before = probabilities(model, x)
        results.said += before.argmax(1).tolist()
        results.labels += [c for _, c in part]
        chosen = [i for i in range(len(part)) if (start + i) % fine == 0]
        results.add(hmt_scores(model, x, before, chosen))
    return results


def measure_sise(file: Path, folder: Path, tiles: int) -> Results:
    """Measure SISE on that many of the first 480 test tiles, evenly taken."""
    model, results = sightline.load(str(file)), Results(0)
    for name, _ in track(evenly(labelled(folder)[:SISE_TILES], tiles), "SISE", console=Console(stderr=True)):
        x = tile(name)[None]
        results.add([("sise", calculate_drop_increase(model, x, probabilities(model, x), sise(model, x), HMT_SHARE))])
    return results


def labelled(folder: Path) -> list[tuple[Path, int]]:
    """List the tiles with the numbers of their classes, both in the order of their names."""
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    return [(f, c) for c, p in enumerate(classes) for f in sorted(p.glob("*.png"))]


def evenly(files: list[tuple[Path, int]], count: int) -> list[tuple[Path, int]]:
    """Take so many of the files, evenly over all."""
    return [files[i] for i in np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int)]


def tile(file: Path) -> torch.Tensor:
    """Return a picture as the network was given it: (3, 224, 224), 0 to 1."""
    picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)


def hmt_scores(
    model: sightline.Model, x: torch.Tensor, before: torch.Tensor, chosen: list[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a batch's drop and increase by variant; the chosen tiles get integrated gradients with many points."""
    maps = {
        "cam": stretched(grad_cam(model, x, HMT_LAYER)),
        "logit": stretched(grad_cam(model, x, HMT_LAYER, "logit")),
        **dict(ig_variants(mean_gradients(model, x, 2), x)),
    }
    for name in ("cam", "logit", "gpu", "cpu", "uncast", "product", "relu product"):
        yield name, (scores := calculate_drop_increase(model, x, before, maps[name], HMT_SHARE))
        if chosen:
            yield f"some {name}", scores[chosen]
    if chosen:
        fine = integrated(model, x[chosen], "probability", 2)
        yield "some fine", calculate_drop_increase(model, x[chosen], before[chosen], fine, HMT_SHARE)


# --- the table ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One number or several: what was recorded, with its digits, and what came out now.

    ``reported`` says that the system's own report has it; other recorded numbers were computed later, from its
    formulas, with other code than this.
    """

    item: str
    ours: tuple[float, ...]
    recorded: tuple[float, ...] = ()
    digits: int = 3
    note: str = ""
    reported: bool = False

    def cells(self, comparable: bool) -> tuple[str, ...]:
        """Return the row as text; the fourth cell says whether both are the same in all recorded digits."""
        recorded = " / ".join(f"{r:.{self.digits}f}" for r in self.recorded) + (" *" if not self.reported else "")
        ours = " / ".join(f"{o:.4f}" for o in self.ours)
        near = (abs(o - r) <= 0.5 * 10**-self.digits + 1e-9 for o, r in zip(self.ours, self.recorded, strict=False))
        same = ("yes" if all(near) else "no") if comparable and self.recorded else ""
        return self.item, recorded if self.recorded else "", ours, same, self.note


def pair(both: tuple[float, float]) -> str:
    """Return drop and increase as text."""
    return f"{both[0]:.3f} / {both[1]:.3f}"


def hmt_rows(r: Results) -> Iterator[Row]:
    """Yield the rows of the histology network."""
    by_class = (0.85, 0.76, 0.77, 0.85, 0.66, 0.82, 0.95, 1.0)
    yield Row("HMT accuracy", (r.accuracy(),), (0.8347,), 4, f"{len(r.labels)} tiles", reported=True)
    yield Row("HMT accuracy by class", r.accuracies(), by_class, 2, reported=True)
    yield Row("HMT Grad-CAM, probability", r.both("cam"), (0.503, 0.286), 3, "best 90 % kept", reported=True)
    yield Row("HMT Grad-CAM, logit", r.both("logit"), (0.6307, 0.2238), 4)
    note = "three quarters of the points are 0, so only a quarter is kept"
    yield Row("HMT IG of tf-explain, GPU cast", r.both("gpu"), (0.885, 0.115), 3, note, reported=True)
    yield Row("HMT IG of tf-explain, CPU cast", r.both("cpu"), (0.6664, 0.1734), 4, "the least important are bright")
    yield Row("HMT IG of tf-explain, not cast", r.both("uncast"), (0.4035, 0.3528), 4, "better than Grad-CAM")
    note = "x times the mean gradient, ReLU of the channels' sum; three quarters are kept"
    yield Row("HMT IG, ten points, ReLU", r.both("relu product"), (0.6847, 0.1915), 4, note)
    yield Row("HMT IG, ten points", r.both("product"), note="the sum itself; 90 % are kept")
    ten, cam, gpu = (pair(r.both(f"some {name}")) for name in ("product", "cam", "gpu"))
    count = len(np.concatenate(r.scores["some fine"]))
    note = f"{count} tiles; on these, ten points {ten}, Grad-CAM {cam}, GPU cast {gpu}"
    yield Row(f"HMT IG, {FINE_STEPS} points", r.both("some fine"), note=note)


def sise_rows(r: Results) -> Iterator[Row]:
    """Yield the row of SISE, where it was measured."""
    if r.scores:
        count = len(np.concatenate(r.scores["sise"]))
        note = f"{count} tiles; recorded by another project with this network and code"
        recorded = (0.5977, 0.1792) if count == SISE_TILES else ()
        yield Row(f"HMT SISE, {SISE_LAYER}", r.both("sise"), recorded, 4, note)


def mnist1d_rows(r: Results) -> Iterator[Row]:
    """Yield the rows of the MNIST-1D network."""
    by_class = (0.9804, 0.8077, 0.8876, 0.9434, 0.8491, 0.8163, 0.9192, 0.8646, 0.9184, 0.7843)
    yield Row("MNIST-1D accuracy", (r.accuracy(),), (0.877,), 3, f"{len(r.labels)} signals", reported=True)
    yield Row("MNIST-1D accuracy by class", r.accuracies(), by_class, 4, reported=True)
    note = (
        f"the old zoom's 1e-17 choose among zeros in {r.counts['short']} maps with too few points above 0, so the "
        "third digit hangs on rounding"
    )
    yield Row("MNIST-1D Grad-CAM, old zoom", r.both("noise"), (0.411, 0.301), 3, note, reported=True)
    note = (
        f"p is 1.0 for {r.counts['certain']} signals, {r.counts['empty']} maps are 0 and keep nothing; scored in "
        f"float64 {pair(r.both('cam scored in float64'))}"
    )
    yield Row("MNIST-1D Grad-CAM, zeros left alone", r.both("cam"), (0.4255, 0.297), 4, note)
    yield Row("MNIST-1D Grad-CAM, float64", r.both("float64"), (0.2709, 0.357), 4, "no map is 0")
    yield Row("MNIST-1D Grad-CAM, logit", r.both("logit"), (0.1156, 0.381), 4)
    yield Row("MNIST-1D Grad-CAM, logit, float64", r.both("float64 logit"), (0.1156, 0.450), 4)
    yield Row("MNIST-1D IG of tf-explain, GPU cast", r.both("gpu"), (0.409, 0.173), 3, reported=True)
    yield Row(
        "MNIST-1D IG of tf-explain, CPU cast", r.both("cpu"), (0.8375, 0.040), 4, "the least important are bright"
    )
    yield Row("MNIST-1D IG of tf-explain, clipped", r.both("clipped"), (0.4010, 0.185), 4)
    yield Row("MNIST-1D IG of tf-explain, not cast", r.both("uncast"), (0.3867, 0.189), 4)
    yield Row("MNIST-1D IG, ten points", r.both("product"), (0.2471, 0.363), 4, "x times the mean gradient")
    yield Row("MNIST-1D IG, ten points, magnitude", r.both("abs product"), (0.2531, 0.272), 4)
    yield Row(f"MNIST-1D IG, {FINE_STEPS} points", r.both("fine"))
    yield Row(f"MNIST-1D IG, {FINE_STEPS} points, logit", r.both("fine logit"))


def printed(hmt: Results, sise: Results, mnist1d: Results) -> None:
    """Print the table: Markdown, so that it can be kept; wide where nobody watches."""
    table = Table("accuracy, or average drop / rate of increase", "recorded", "ours", "same", "note", box=box.MARKDOWN)
    for row in [*hmt_rows(hmt), *sise_rows(sise), *mnist1d_rows(mnist1d)]:
        table.add_row(*row.cells(len(hmt.labels) == TILES or row.item.startswith(("MNIST", "HMT SISE"))))
    console = Console(width=None if sys.stdout.isatty() else 400)
    console.print(table)
    console.print("* not in the system's report: computed later, from its formulas, with other code than this")


def main() -> int:
    """Measure both networks and print the table."""
    parser = argparse.ArgumentParser(description="Recorded and reproduced numbers of XAI methods for CNN (2021).")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with keras/ and hmt/test/")
    parser.add_argument("--tiles", type=int, default=TILES, help=f"histology tiles to measure on, of {TILES}")
    parser.add_argument("--sise", type=int, default=SISE_TILES, help=f"tiles for SISE, of {SISE_TILES}; 2 s each")
    asked = parser.parse_args()
    keras, tiles = asked.data / "keras", asked.data / "hmt" / "test"
    missing = [str(p) for p in (keras / "HMT.h5", keras / "MNIST1D.h5", tiles) if not p.exists()]
    if missing or asked.tiles < 1:
        print(f"not there: {', '.join(missing)}" if missing else "--tiles: give at least 1", file=sys.stderr)
        return 2
    mnist1d = measure_mnist1d(keras / "MNIST1D.h5")
    sise = measure_sise(keras / "HMT.h5", tiles, asked.sise)
    printed(measure_hmt(keras / "HMT.h5", tiles, asked.tiles), sise, mnist1d)
    return 0


if __name__ == "__main__":
    sys.exit(main())
