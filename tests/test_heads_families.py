"""One small member of each family: its head, what of it is frozen, its tail, and a bundle that opens again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sightline.forward import find_logits
from sightline.geometry import Preprocessing
from sightline.labels import Labels
from sightline.models.bundle import write_bundle
from sightline.models.load import load
from sightline.models.model import Model
from sightline.training.features import tail_of
from sightline.training.heads import find_heads, trainable, with_heads
from sightline.training.trunk import Trunk, freeze, set_modes

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:timm", "ignore::FutureWarning:timm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TINY = Preprocessing(resize=(64, 64), crop=None)
FAMILIES = [
    ("resnet18", ("fc",), "fc", 32),
    ("squeezenet1_1", ("classifier.1",), "classifier", 32),
    ("densenet121", ("classifier",), "classifier", 32),
    ("googlenet", ("fc",), "fc", 32),
    ("inception_v3", ("fc",), "fc", 80),
    ("mobilenet_v2", ("classifier.1",), "classifier", 32),
    ("mobilenet_v3_small", ("classifier.3",), "classifier", 32),
    ("shufflenet_v2_x0_5", ("fc",), "fc", 32),
    ("mnasnet0_5", ("classifier.1",), "classifier", 32),
    ("efficientnet_b0", ("classifier.1",), "classifier", 32),
    ("regnet_y_400mf", ("fc",), "fc", 32),
    ("timm/resnet18", ("fc",), "fc", 32),
    ("timm/vit_tiny_patch16_224", ("head",), "head", 224),
    ("timm/deit_tiny_distilled_patch16_224", ("head_dist", "head"), "", 224),
    ("timm/efficientnet_b0", ("classifier",), "classifier", 32),
    ("timm/convnext_atto", ("head.fc",), "head", 32),
    ("timm/mobilenetv4_conv_small", ("classifier",), "classifier", 32),
    ("vgg7", ("head",), "head", 32),
    ("small-vit", ("head",), "head", 96),
]


def untrained(name: str, side: int) -> Model:
    model = load(name, weights=None, device="cpu", preprocessing=replace(TINY, resize=(side, side)))
    return trainable(model)


def adapted(model: Model) -> tuple[tuple[str, ...], Trunk]:
    heads = find_heads(model.module, model.example_input())
    with_heads(model.module, heads, 2)
    return heads, freeze(model, heads, "features")


def scores(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return find_logits(module(x), len(x))


def reopened(model: Model, architecture: str, heads: tuple[str, ...], folder: Path) -> Model:
    write_bundle(replace(model, labels=Labels(("cat", "dog"))), architecture, folder, heads=heads)
    return load(folder, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "heads", "learned", "side"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_a_family_can_be_trained_and_opened_again(
    name: str, heads: tuple[str, ...], learned: str, side: int, tmp_path: Path
) -> None:
    model = untrained(name, side)
    found, trunk = adapted(model)
    assert (found, trunk.learned) == (heads, learned)
    assert (tail_of(model, trunk.learned) is not None) == (learned != "")
    _one_step(model.module, trunk, side)
    again = reopened(model, name, heads, tmp_path / "run")
    x = model.example_input()
    assert torch.equal(scores(again.module.eval(), x), scores(model.module.eval(), x))
    assert tuple(again.labels) == ("cat", "dog")


def _one_step(module: nn.Module, trunk: Trunk, side: int) -> None:
    """Learn one batch, all but frozen, in training mode: the main logits are found, and only what learns changes."""
    kept = {n: v.clone() for n, v in module.state_dict().items()}
    set_modes(module, trunk.resting)
    learned = {n: p for n, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(learned.values(), 0.1)
    x = torch.randn((2, 3, side, side), generator=torch.Generator().manual_seed(5))
    torch.nn.functional.cross_entropy(find_logits(module(x), 2), torch.tensor([0, 0])).backward()
    optimizer.step()
    changed = {n for n, v in module.state_dict().items() if not torch.equal(v, kept[n])}
    assert changed
    assert changed <= set(learned)


def test_vgg16_learns_its_three_linear_layers() -> None:
    """119,554,050 and 14,714,688 parameters with two classes, as recorded; made without memory."""
    from sightline.models.zoo import import_torchvision
    from sightline.training import trunk

    with torch.device("meta"):
        net = import_torchvision().models.vgg16(num_classes=2)
    layers = [m for m in net.modules() if trunk._has_weights(m)]
    learned, name = trunk._learned(net, layers, ("classifier.6",), "features")
    sizes = [sum(p.numel() for p in m.parameters()) for m in layers]
    assert name == "classifier"
    assert sum(n for n, m in zip(sizes, layers, strict=True) if m in learned) == 119_554_050
    assert sum(n for n, m in zip(sizes, layers, strict=True) if m not in learned) == 14_714_688


@pytest.mark.slow
def test_inception_with_its_auxiliary_head_trains_the_main_one_alone(tmp_path: Path) -> None:
    from sightline.models.zoo import import_torchvision

    net = import_torchvision().models.inception_v3(init_weights=False, transform_input=True).eval()
    model = trainable(load(net, preprocessing=replace(TINY, resize=(80, 80))))
    x = model.example_input()
    before = scores(net, x)
    assert torch.equal(scores(model.module, x), before)
    assert net.AuxLogits is not None
    assert model.module.AuxLogits is None
    heads, _ = adapted(model)
    set_modes(model.module)
    assert model.module(torch.cat([x, x])).shape == (2, 2)  # in training mode too, where it would be a pair
    again = reopened(model, "inception_v3", heads, tmp_path / "run")
    assert torch.equal(scores(again.module, x), scores(model.module.eval(), x))  # its input is transformed again


def _alexnet(models: Any) -> nn.Module:
    with torch.device("meta"):
        net = models.alexnet(num_classes=7)
    net.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2))
    return _narrow(net, 4 * 36, 1)


def _vgg(models: Any) -> nn.Module:
    with torch.device("meta"):
        net = models.VGG(nn.Identity(), 7, init_weights=False)
    net.features = models.vgg.make_layers([4, "M", 4], batch_norm=True)
    return _narrow(net, 4 * 49, 0)


def _narrow(net: Any, features: int, first: int) -> nn.Module:
    for place, inputs, outputs in ((first, features, 8), (first + 3, 8, 8), (6, 8, 7)):
        net.classifier[place] = nn.Linear(inputs, outputs)
    return net  # type: ignore[no-any-return]


def _convnext(models: Any) -> nn.Module:
    settings = [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)]
    return models.ConvNeXt(settings, num_classes=7)  # type: ignore[no-any-return]


OWN = [  # the families whose smallest members are large, with less in them
    (_alexnet, ("classifier.6",), "classifier", 64),
    (_convnext, ("classifier.2",), "classifier", 32),
    (lambda m: m.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=7), ("heads.head",), "heads", 32),
    (lambda m: m.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=7), ("head",), "head", 32),
    (lambda m: m.MaxVit((32, 32), 8, 4, [8, 8], [1, 1], 4, 0.1, num_classes=7), ("classifier.5",), "classifier", 32),
    (lambda m: m.ResNet(m.resnet.Bottleneck, [1] * 4, 7, groups=2, width_per_group=4), ("fc",), "fc", 32),
    (_vgg, ("classifier.6",), "classifier", 32),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "heads", "learned", "side"), OWN, ids=[h[1][0] + str(i) for i, h in enumerate(OWN)])
def test_a_module_can_be_trained_and_its_weights_put_into_another(
    make: Any, heads: tuple[str, ...], learned: str, side: int, tmp_path: Path
) -> None:
    from sightline.models.zoo import import_torchvision

    def net() -> nn.Module:
        return make(import_torchvision().models).eval()  # type: ignore[no-any-return]

    model = trainable(load(net(), preprocessing=replace(TINY, resize=(side, side))))
    found, trunk = adapted(model)
    assert (found, trunk.learned) == (heads, learned)
    assert tail_of(model, trunk.learned) is not None
    _one_step(model.module, trunk, side)
    write_bundle(replace(model, labels=Labels(("cat", "dog"))), "", tmp_path / "run", heads=heads)
    given = net()
    again = load(given, weights=tmp_path / "run")
    assert again.module is not given
    x = model.example_input()
    assert torch.equal(scores(again.module, x), scores(model.module.eval(), x))


def _vit() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    return transformers.ViTForImageClassification(config)


def _resnet() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return transformers.ResNetForImageClassification(config)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "head"), [(_vit, "classifier"), (_resnet, "classifier.1")])
def test_a_folder_of_hugging_face_becomes_a_bundle_that_needs_it_no_more(make: Any, head: str, tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    make().save_pretrained(folder)
    model = trainable(load(folder, device="cpu", preprocessing=replace(TINY, resize=(32, 32))))
    heads, trunk = adapted(model)
    assert heads == (head,)
    assert tail_of(model, trunk.learned) is not None
    write_bundle(replace(model, labels=Labels(("cat", "dog"))), str(folder), tmp_path / "run", heads=heads)
    folder.rename(tmp_path / "gone")
    again = load(tmp_path / "run", device="cpu")
    x = model.example_input()
    assert torch.equal(scores(again.module, x), scores(model.module, x))
    assert again.module.config.id2label == {0: "cat", 1: "dog"}
