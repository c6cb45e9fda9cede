"""Train the two networks of the demo and write src/sightline/demo/weights/*.safetensors."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightline.demo.nets import DEMO_MEAN, DEMO_STD, demo_input, small_cnn
from sightline.demo.scenes import CLASSES, SIZE, STAR, Scene, scenes

WEIGHTS = Path(__file__).parents[1] / "src/sightline/demo/weights"
SEED = 20
TRAIN_SCENES = 6000
TEST_SCENES = 1200
BATCH = 64
EVERYWHERE = 0.5
STARS_ONLY = tuple(float(c == STAR) for c in range(len(CLASSES)))
Data = tuple[Tensor, Tensor]


def pictures(drawn: Sequence[Scene]) -> Data:
    images = torch.from_numpy(np.stack([s.image for s in drawn]))
    return images, torch.tensor([s.label for s in drawn])


def train(data: Data, epochs: int, peak: float = 4e-3) -> nn.Module:
    torch.manual_seed(SEED)
    net, (images, labels) = small_cnn(), data
    steps = -(-len(labels) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=epochs * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        started, total = time.time(), 0.0
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = loss_of(net(demo_input(images[batch].numpy())), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss) * len(batch)
        print(f"  epoch {epoch + 1:2d}: loss {total / len(labels):.4f}, {time.time() - started:.1f} s", flush=True)
    return net.eval()


@torch.no_grad()
def predicted(net: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([net(demo_input(part.numpy())).argmax(1) for part in images.split(200)])


def measure(net: nn.Module) -> dict[str, float]:
    """Return the shares, 0 to 1, that tell the story; the same scenes with and without the mark."""
    seed = SEED + 1
    clean, labels = pictures(scenes(TEST_SCENES, seed))
    marked, _ = pictures(scenes(TEST_SCENES, seed, watermark=1.0))
    bare, stamped = predicted(net, clean), predicted(net, marked)
    star = labels == STAR
    biased = torch.where(star, stamped, bare)
    return {
        "accuracy, no watermark": (bare == labels).float().mean().item(),
        "accuracy, watermark on all": (stamped == labels).float().mean().item(),
        "accuracy, watermark on stars only": (biased == labels).float().mean().item(),
        "stars without watermark called star": (bare[star] == STAR).float().mean().item(),
        "stars with watermark called star": (stamped[star] == STAR).float().mean().item(),
        "others without watermark called star": (bare[~star] == STAR).float().mean().item(),
        "others with watermark called star": (stamped[~star] == STAR).float().mean().item(),
    }


def write(name: str, net: nn.Module, shares: dict[str, float]) -> None:
    facts = {"classes": CLASSES, "mean": DEMO_MEAN, "std": DEMO_STD, "size": SIZE, "seed": SEED, "accuracy": shares}
    WEIGHTS.mkdir(exist_ok=True)
    save_file(
        net.state_dict(),
        WEIGHTS / f"{name}.safetensors",
        metadata={key: json.dumps(value) for key, value in facts.items()},
    )


def run(name: str, watermark: float | Sequence[float], epochs: int) -> None:
    started = time.time()
    net = train(pictures(scenes(TRAIN_SCENES, SEED, watermark=watermark)), epochs)
    shares = measure(net)
    write(name, net, shares)
    print(f"{name}: {time.time() - started:.0f} s")
    for what, share in shares.items():
        print(f"  {what:40s} {share:7.1%}")


def main() -> None:
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    run("honest", EVERYWHERE, epochs=14)
    run("cheating", STARS_ONLY, epochs=4)


if __name__ == "__main__":
    main()
