"""A model with all that an explanation needs to know of it: module, preprocessing, class names, weights, layers."""

from __future__ import annotations

import copy
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from sightline.errors import LayerError, ModelError
from sightline.forward import Precision
from sightline.geometry import Geometry, Preprocessing, prepare
from sightline.images import MAX_PIXELS, Picture, read_image
from sightline.labels import Labels
from sightline.models.adapted import Adapted, bare, tensors_of
from sightline.models.layers import Layer, trace_layers

__all__ = ["Model", "guess_channels", "usual_preprocessing"]

_LOG = logging.getLogger("sightline")
_COPIES: Mapping[Precision, torch.dtype] = {"float64": torch.float64, "float32": torch.float32}
_CONVOLUTIONS: tuple[tuple[type[nn.Module], int], ...] = ((nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3))


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A classifier ready to be explained.

    ``module`` is the user's own, untouched. ``weights`` says where its weights came from ("IMAGENET1K_V1",
    "random", a file's name, "as given"); ``input_size`` is the spatial size that it takes, where it is fixed and known;
    ``notes`` say what a user should know of them. ``assumed`` says that no
    preprocessing came with the model, which is said once, when the first picture needs it. ``dims`` is 1 for series,
    2 for pictures, 3 for volumes; None leaves it to the input's size or the first convolution.
    ``batch`` is the only batch size that an exported program takes; ``fixed`` says
    that its other inputs are given.

    >>> Model(nn.Conv2d(3, 2, 1), "tiny", Preprocessing()).weights
    'as given'
    """

    module: nn.Module
    name: str
    preprocessing: Preprocessing
    labels: Labels = field(default_factory=Labels)
    weights: str = "as given"
    notes: tuple[str, ...] = ()
    assumed: bool = False
    max_pixels: int = MAX_PIXELS
    input_size: tuple[int, ...] | None = None
    dims: int | None = None
    batch: int | None = None
    fixed: bool = False
    _told: list[bool] = field(default_factory=list, repr=False)
    _layers: dict[tuple[int, ...], tuple[Layer, ...]] = field(default_factory=dict, repr=False)
    _copies: dict[Precision, Model] = field(default_factory=dict, repr=False)
    _shuffled: dict[tuple[int, frozenset[str]], nn.Module] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        classes = f"{len(self.labels)} class names" if len(self.labels) else "no class names"
        return f"<Model {self.name}: weights {self.weights}, {classes}, {self.preprocessing.describe()}, {self.device}>"

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of names, shapes and values of parameters and buffers: 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, values in tensors_of(self.module).items():
            # Keras numbers its layers anew for each model that a process makes: dense_1, dense_2.
            digest.update(f"{re.sub(r'_[0-9]+(?=/|$)', '', name)}{tuple(values.shape)}{values.dtype}".encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @cached_property
    def broken_weights(self) -> tuple[str, ...]:
        """The names of parameters and buffers that hold NaN or infinity."""
        return tuple(
            name
            for name, v in tensors_of(self.module).items()
            if v.is_floating_point() and not bool(torch.isfinite(v).all())
        )

    @cached_property
    def input_dims(self) -> int:
        """How many spatial dimensions it takes: ``dims``, or as input size or first convolution have it, or 2."""
        if self.dims is not None or self.input_size:
            return self.dims or len(self.input_size or ())
        # A convolution of a TorchScript module is known by its original name only.
        names = (str(getattr(m, "original_name", "")) for m in self.module.modules())
        kinds = zip(self.module.modules(), names, strict=True)
        found = (n for m, name in kinds for kind, n in _CONVOLUTIONS if isinstance(m, kind) or name == kind.__name__)
        return next(found, 2)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and so of the input."""
        return next((p.dtype for p in self._tensors() if p.is_floating_point()), torch.float32)

    def _tensors(self) -> Iterator[Tensor]:
        return chain(self.module.parameters(), self.module.buffers())

    def read(self, source: object) -> Picture:
        """Decode an image file, PIL image or array into what this model's channels ask for."""
        return read_image(source, channels=self.preprocessing.channels, max_pixels=self.max_pixels)

    def prepare(self, picture: Picture) -> tuple[Tensor, Geometry]:
        """Turn a picture into the model's input (C, H, W) and the way back to the original pixels."""
        if self.assumed and not self._told:
            self._told.append(True)
            how = self.preprocessing.describe()
            _LOG.warning("%s: no preprocessing came with the model, so this is assumed: %s", self.name, how)
        tensor, geometry = prepare(picture, self.preprocessing)
        return tensor.to(self.device, self.dtype), geometry

    def layers(self, x: Tensor | None = None) -> tuple[Layer, ...]:
        """List the layers in execution order for an input like ``x``, traced once for each input shape."""
        example = x if x is not None else self.example_input()
        key = tuple(example.shape[1:])
        if key not in self._layers:
            self._layers[key] = trace_layers(self.module, example.to(self.device, self.dtype), self.batch or 1)
        return self._layers[key]

    def default_layer(self, x: Tensor | None = None) -> str:
        """Name the layer that CAMs read: the last with spatial extent whose positions carry gradient.

        Raises LayerError where there is none.
        """
        for layer in self.layers(x):
            if layer.default:
                return layer.name
        if not self.layers(x):
            raise LayerError(
                f"{self.name} shows no layers, so CAMs have nothing to read; use a method that reads the input "
                "(gradient, integrated_gradients) or only the scores (occlusion, rise)."
            )
        raise LayerError(
            f"{self.name} has no layer with positions that still carry gradient, so methods that read a layer mean "
            "nothing here; use a method that reads the input (gradient, integrated_gradients), or name a layer."
        )

    def last_layers(self, x: Tensor | None = None) -> tuple[str, ...]:
        """Name the last layer of each spatial size, in order, up to the one that CAMs read.

        Raises LayerError where there is none.
        """
        default = self.default_layer(x)
        return tuple(layer.name for layer in self.layers(x) if layer.last or layer.name == default)

    def example_input(self) -> Tensor:
        """Return a random input (1, C, *S) of the size that the preprocessing makes."""
        size = self.preprocessing.crop or self.preprocessing.resize or 224
        side = size if isinstance(size, tuple) else (size, size)
        usual = {1: side[:1], 3: (16, 64, 64)}.get(self.input_dims, side)  # of a volume less, for the memory's sake
        spatial = self.input_size or usual
        generator = torch.Generator().manual_seed(0)
        return torch.randn((1, self.preprocessing.channels, *spatial), generator=generator)

    def in_precision(self, precision: Precision) -> Model:
        """Return the model with its weights in float32 or float64 (a copy); other precisions need none."""
        dtype = _COPIES.get(precision)
        if dtype is None or dtype == self.dtype:
            return self
        if isinstance(self.module, Adapted) and self.module.precisions is not None:
            raise ModelError(f"{self.name} computes in {self.dtype} only; use precision='model'.")
        if precision not in self._copies:
            with torch.inference_mode(False), torch.no_grad():  # the copy outlives whatever mode the caller is in
                adapted = isinstance(self.module, Adapted)  # it says how the module inside is to be called
                module = copy.deepcopy(self.module if adapted else bare(self.module)).to(dtype)
            self._copies[precision] = replace(self, module=module, _layers={}, _copies={}, _shuffled={})
            self._copies[precision].__dict__["weights_hash"] = self.weights_hash
        return self._copies[precision]

    def check_weights(self) -> None:
        """Raise ModelError where the weights hold NaN or infinity."""
        if self.broken_weights:
            shown = ", ".join(self.broken_weights[:3])
            raise ModelError(
                f"{self.name}: {len(self.broken_weights)} weights hold NaN or infinity ({shown}); load others."
            )


def usual_preprocessing(channels: int, size: tuple[int, ...] | None = None) -> Preprocessing:
    """Return what most models want, for one that does not say: ImageNet's, or -1 to 1 for other channel counts.

    ``size`` is the input's where it is fixed; else a 224 crop is taken.
    """
    how = Preprocessing() if size is None or len(size) != 2 else Preprocessing(resize=(size[0], size[1]), crop=None)
    return how if channels == 3 else replace(how, mean=(0.5,) * channels, std=(0.5,) * channels)


def guess_channels(module: nn.Module) -> int:
    """Return the number of input channels that the first convolution of a module takes, or 3."""
    for part in module.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return part.in_channels
    sizes = (p.shape[1] for p in module.parameters() if p.ndim >= 3)
    return next(sizes, 3)
