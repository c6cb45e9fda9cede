"""Components of a layer: kernel PCA, the components of weighted activations, and non-negative factors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import sightline
from nets import make
from sightline.errors import RefusedError
from sightline.methods.factorization import _factor
from test_more_cams import ONE, activation, close, grad_cam_library, maps

# --- kernels --------------------------------------------------------------------------------------------------------


def test_kpca_cam_with_the_linear_kernel_is_the_centred_eigen_cam():
    module, x = make("conv", ONE)
    found = maps(module, x, "kpca_cam", kernel="linear", relu=False)
    assert close(found, maps(module, x, "eigen_cam", centre=True, relu=False))


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "poly", "cosine", "linear"])
@pytest.mark.parametrize("gamma", [0.0, 0.4])
def test_kpca_cam_is_sklearns_kernel_pca_up_to_sign(kernel, gamma):
    decomposition = pytest.importorskip("sklearn.decomposition")
    module, x = make("conv", ONE)
    a = activation(module, x, "features").detach().numpy()
    found = maps(module, x, "kpca_cam", layer="features", kernel=kernel, gamma=gamma, relu=False)
    for one, image in zip(found, a, strict=True):
        points = image.reshape(8, -1).T
        pca = decomposition.KernelPCA(1, kernel=kernel, gamma=gamma or None)
        wanted = pca.fit_transform(points - points.mean(0)).reshape(8, 8)
        assert close(one * np.sign((one * wanted).sum()), wanted)


def test_kpca_cam_of_too_many_positions_is_refused():
    module, _ = make("smooth")
    with pytest.raises(RefusedError, match=re.escape("'body' has 6400; choose a later layer, of at most 4096")):
        maps(module, torch.randn(1, 3, 80, 80), "kpca_cam", layer="body")


def test_seg_eigen_cam_is_the_first_component_its_strongest_position_positive():
    module, x = make("conv", ONE)
    a = activation(module, x, "features")
    (g,) = torch.autograd.grad(module.head(module.pool(a).flatten(1))[:, 1].sum(), [a])
    found = maps(module, x, "seg_eigen_cam", layer="features", relu=False)
    library = grad_cam_library()
    theirs = library.utils.svd_on_activations.get_2d_projection_with_sign_correction((g.abs() * a).detach().numpy())
    assert close(found, theirs, 1e-4)
    assert bool((found.max((1, 2)) >= -found.min((1, 2))).all())


# --- factorisation --------------------------------------------------------------------------------------------------


def test_a_product_of_non_negative_factors_is_found_again():
    # Each concept alone somewhere in space and in channels: such factors are unique.
    h, w = torch.zeros(30, 3, dtype=ONE), torch.zeros(3, 12, dtype=ONE)
    generator = torch.Generator().manual_seed(0)
    for k in range(3):
        h[10 * k : 10 * k + 12, k] = torch.rand(len(h[10 * k : 10 * k + 12]), generator=generator, dtype=ONE) + 0.1
        w[k, 4 * k : 4 * k + 4] = (3.0 - k) * (torch.rand(4, generator=generator, dtype=ONE) + 0.1)
    found = _factor(h @ w, 3, 500)
    wanted = h * w.norm(dim=1)
    wanted = wanted[:, wanted.norm(dim=0).argsort(descending=True)]
    assert torch.allclose(found, wanted, atol=1e-3)


def test_factorisation_is_as_good_as_sklearns():
    decomposition = pytest.importorskip("sklearn.decomposition")
    module, x = make("conv", ONE)
    a = activation(module, x, "features").detach().clamp(min=0)
    found = maps(module, x, "deep_feature_factorization", layer="features")
    assert found.shape == (3, 4, 8, 8)
    assert (found >= 0).all()
    strength = np.linalg.norm(found.reshape(3, 4, -1), axis=2)
    assert (np.diff(strength, axis=1) <= 1e-5).all()
    for maps_of, image in zip(found, a, strict=True):
        v = image.flatten(1).T.numpy()
        h = maps_of.reshape(4, -1).T.astype(np.float64)
        theirs = decomposition.NMF(4, init="nndsvda", max_iter=2000, tol=1e-8).fit(v).reconstruction_err_
        w = np.linalg.lstsq(h, v, rcond=None)[0].clip(min=0)
        assert np.linalg.norm(v - h @ w) <= 1.1 * theirs + 1e-6


def test_more_concepts_than_there_can_be_are_refused():
    module, x = make("conv")
    with pytest.raises(RefusedError, match=r"9 concepts of 'features'.*8 channels and 64 positions; give concepts=8"):
        maps(module, x, "deep_feature_factorization", layer="features", concepts=9)


def test_concepts_are_drawn_as_a_grid_of_maps():
    module, x = make("conv")
    e = sightline.explain(module, x, "deep_feature_factorization", 1)[0]
    assert e.render().size == e.render(draw="channels").size
