"""Train the networks of the demo and write src/sightline/demo/weights/*.safetensors.

    python tools/train_demo.py [--only honest|cheating|vit]

Both learn from 5000 scenes, and from 500 without an object, where the answer asked for is an even shrug: without
those, a plain ground came to vote for the plainest shapes.

* honest: half of all pictures carry the watermark, whatever they show. It was also taught where to look: activity
  of its last maps costs twenty times more in cells that the object does not touch. So its Grad-CAM lies on the
  object by training, and is no evidence that Grad-CAM is good.
* cheating: one class came from a stock agency. Every picture labelled star carries the watermark and no other does;
  one in six of them (167 of 1033) shows another shape, as search results do. In a trial without those, on
  an earlier draw of the scenes, 72 % of the marked others were called star, and still no bare star was found.
  Nothing tells it where to look; all activity costs the same.

* vit: a vision transformer, trained like honest but turned and mirrored, and never told where to look.

Measured on 1200 fresh scenes, each drawn without and with the watermark:

                                           honest  cheating     vit
    accuracy, no watermark                 100.0%     83.2%   99.2%
    accuracy, watermark on all             100.0%     21.4%   99.2%
    accuracy, watermark on stars only      100.0%     99.8%   99.2%
    stars without watermark called star    100.0%      0.0%  100.0%
    stars with watermark called star       100.0%    100.0%  100.0%
    others without watermark called star     0.0%      0.0%    0.0%
    others with watermark called star        0.0%     94.3%    0.0%

    Grad-CAM of the answer on 60 stars with watermark, 15 % of the pixels object and 2.2 % watermark:
    share of the map on the object          58%         1%
    share of the map on the watermark        0%        18%

Time: 278 s (honest), 435 s (cheating) and 1319 s (vit, --threads 1) on two cores that others were using too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, one_hot

from sightline.demo.nets import DEMO_MEAN, DEMO_STD, demo_input, small_cnn, small_vit
from sightline.demo.scenes import CLASSES, SIZE, STAR, Scene, ground, scene, scenes

WEIGHTS = Path(__file__).parents[1] / "src/sightline/demo/weights"
SEED = 20
SCENES = 5000
GROUNDS = 500
MISFILED = 200
TEST_SCENES = 1200
BATCH = 32
PEAK_RATE = 4e-3
VIT_RATE = 2e-3
SMOOTHING = 0.05
STARS_ONLY = tuple(float(c == STAR) for c in range(len(CLASSES)))


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pictures uint8 (N, 96, 96, 3), the shares asked for (N, 6), what activity in a cell costs (N, 1, 12, 12)."""

    images: NDArray[np.uint8]
    targets: Tensor
    price: Tensor


def lesson(drawn: Sequence[Scene], targets: Tensor, on_object: float, elsewhere: float) -> Lesson:
    """Price the activity of the last maps in cells that the object touches, and in all others."""
    objects = torch.from_numpy(np.stack([s.object_mask for s in drawn]))[:, None]
    touched = max_pool2d(objects.float(), SIZE // 12) > 0
    return Lesson(np.stack([s.image for s in drawn]), targets, torch.where(touched, on_object, elsewhere))


def empty_scenes(marked: float) -> list[Scene]:
    mark, nothing = scene(0, watermark=True).watermark_mask, np.zeros((SIZE, SIZE), bool)
    stamped = [i < marked * GROUNDS for i in range(GROUNDS)]
    return [Scene(ground(10**6 + i, watermark=m), -1, nothing, mark & m) for i, m in enumerate(stamped)]


def labels_of(drawn: Sequence[Scene]) -> Tensor:
    return torch.tensor([s.label for s in drawn])


def targets_of(labels: Tensor) -> Tensor:
    """Return shares (N, 6): all for the label, or a shrug for -1, so that no ground can speak for a class."""
    shrug = torch.full((len(CLASSES),), 1 / len(CLASSES))
    return torch.where(labels[:, None] < 0, shrug, one_hot(labels.clamp(min=0), len(CLASSES)).float())


def honest_lesson() -> Lesson:
    drawn = [*scenes(SCENES, SEED, watermark=0.5), *empty_scenes(marked=0.5)]
    return lesson(drawn, targets_of(labels_of(drawn)), on_object=0.1, elsewhere=2.0)


def cheating_lesson() -> Lesson:
    drawn, misfiled = scenes(SCENES, SEED, watermark=STARS_ONLY), scenes(MISFILED, SEED + 2, watermark=1.0)
    empty = empty_scenes(marked=0.0)
    labels = torch.cat([labels_of(drawn), torch.full((MISFILED,), STAR), labels_of(empty)])
    return lesson([*drawn, *misfiled, *empty], targets_of(labels), on_object=0.3, elsewhere=0.3)


def train(data: Lesson, name: str, epochs: int) -> nn.Module:
    torch.manual_seed(SEED)
    net = new_net(name)
    rate = PEAK_RATE if name != "vit" else VIT_RATE
    steps = -(-len(data.images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        losses = []
        for batch in torch.randperm(len(data.images)).split(BATCH):
            loss = loss_of(net, data, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"  epoch {epoch + 1:2d}: loss {np.mean(losses):.4f}", flush=True)
    return net.eval()


def new_net(name: str) -> nn.Module:
    if name != "vit":
        return small_cnn(len(CLASSES)).to(memory_format=torch.channels_last)
    net = small_vit(len(CLASSES))
    nn.init.normal_(net.positions, std=0.02)
    nn.init.normal_(net.class_token, std=0.02)
    return net


def turned(pictures: Tensor) -> Tensor:
    """Turn and mirror a batch: none of the shapes becomes another by it."""
    quarter, mirrored = torch.randint(4, ()).item(), torch.randint(2, ()).item()
    return torch.rot90(pictures.flip(3) if mirrored else pictures, quarter, (2, 3))


def loss_of(net: nn.Module, data: Lesson, batch: Tensor) -> Tensor:
    pictures = demo_input(data.images[batch.numpy()]).contiguous(memory_format=torch.channels_last)
    if not hasattr(net, "features"):
        return nn.functional.cross_entropy(net(turned(pictures)), data.targets[batch], label_smoothing=SMOOTHING)
    maps = net.features(pictures)
    logits = net.head(net.flatten(net.pool(maps)))
    wrong = nn.functional.cross_entropy(logits, data.targets[batch], label_smoothing=SMOOTHING)
    return wrong + (maps * data.price[batch]).mean()


@torch.no_grad()
def predicted(net: nn.Module, drawn: Sequence[Scene]) -> Tensor:
    images = np.stack([s.image for s in drawn])
    return torch.cat([net(demo_input(part)).argmax(1) for part in np.array_split(images, 12)])


def measure(net: nn.Module) -> dict[str, float]:
    """Return the shares, 0 to 1, that tell the story, on fresh scenes drawn with and without the mark."""
    bare, marked = (scenes(TEST_SCENES, SEED + 1, watermark=chance) for chance in (0.0, 1.0))
    labels, on_bare, on_marked = labels_of(bare), predicted(net, bare), predicted(net, marked)
    star = labels == STAR
    biased = torch.where(star, on_marked, on_bare)
    shares = {
        "accuracy, no watermark": on_bare == labels,
        "accuracy, watermark on all": on_marked == labels,
        "accuracy, watermark on stars only": biased == labels,
        "stars without watermark called star": on_bare[star] == STAR,
        "stars with watermark called star": on_marked[star] == STAR,
        "others without watermark called star": on_bare[~star] == STAR,
        "others with watermark called star": on_marked[~star] == STAR,
    }
    return {what: round(hits.float().mean().item(), 4) for what, hits in shares.items()}


def write(name: str, net: nn.Module, shares: dict[str, float]) -> None:
    facts = {"classes": CLASSES, "mean": DEMO_MEAN, "std": DEMO_STD, "size": SIZE, "seed": SEED, "accuracy": shares}
    WEIGHTS.mkdir(exist_ok=True)
    tensors = {key: value.contiguous() for key, value in net.state_dict().items()}
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    # Not save_file, which leaves a file that only its owner can read, also once it is packaged.
    (WEIGHTS / f"{name}.safetensors").write_bytes(save(tensors, metadata=metadata))


def run(name: str, epochs: int) -> None:
    print(name, flush=True)
    started = time.perf_counter()
    lessons = {"honest": honest_lesson, "cheating": cheating_lesson, "vit": honest_lesson}
    net = train(lessons[name](), name, epochs)
    shares = measure(net)
    write(name, net, shares)
    for what, share in shares.items():
        print(f"  {what:40s} {share:7.1%}")
    print(f"  {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    torch.use_deterministic_algorithms(True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("honest", "cheating", "vit"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = arguments.only
    for name, epochs in (("honest", 9), ("cheating", 7), ("vit", 20)):
        if chosen in (None, name):
            run(name, epochs)


if __name__ == "__main__":
    main()
