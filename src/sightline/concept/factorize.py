"""Non-negative matrix factorisation: A (N, C) of 0 or more as U (N, R) times W (R, C), both of 0 or more."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.errors import ParameterError

__all__ = ["encode", "factorize"]

_TINY = 1e-12


def factorize(a: Tensor, rank: int, *, iterations: int = 500, tolerance: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Minimise |A - U W|² over U (N, R) and W (R, C), both of 0 or more; each row of W has length 1.

    Columns are improved one after the other, from the singular vectors: nothing is drawn at random. It ends when
    the error falls by less than ``tolerance`` of itself over ten rounds. Raises ParameterError for a negative value
    or too large a rank.
    """
    if bool((a < 0).any()):
        raise ParameterError("a negative value came; wanted a matrix of 0 or more to factorise.")
    if not 1 <= rank <= min(a.shape):
        raise ParameterError(f"{rank} factors of a matrix of {tuple(a.shape)}; wanted 1 to {min(a.shape)}.")
    u, w = _first_guess(a, rank)
    last = float("inf")
    for step in range(iterations):
        w = _improved(w.T, a.T @ u, u.T @ u).T
        u = _improved(u, a @ w.T, w @ w.T)
        if step % 10 == 9:
            error = float(((a - u @ w) ** 2).sum())
            if error >= last * (1 - tolerance):
                break
            last = error
    length = w.norm(dim=1).clamp(min=_TINY)
    return u * length, w / length.unsqueeze(1)


def encode(a: Tensor, w: Tensor, *, iterations: int = 100) -> Tensor:
    """Return the U (N, R) of 0 or more that minimises |A - U W|² for the given W (R, C)."""
    u = a.new_zeros(len(a), len(w))
    shares, gram = a @ w.T, w @ w.T
    for _ in range(iterations):
        u = _improved(u, shares, gram)
    return u


def _improved(u: Tensor, shares: Tensor, gram: Tensor) -> Tensor:
    """Set each column of U in turn to what is best while the others stay: shares A Wᵀ (N, R), gram W Wᵀ (R, R)."""
    u = u.clone()
    for k in range(u.shape[1]):
        change = (shares[:, k] - u @ gram[:, k]) / gram[k, k].clamp(min=_TINY)
        u[:, k] = (u[:, k] + change).clamp(min=0)
    return u


def _first_guess(a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Start at the larger of the positive and negative parts of each pair of singular vectors (NNDSVD)."""
    left, values, right = _singular(a, rank)
    u, w = torch.zeros_like(left), torch.zeros_like(right)
    for k in range(rank):
        x, y = _larger_part(left[:, k], right[k])
        scale = (values[k] * x.norm() * y.norm()).sqrt()
        u[:, k] = scale * x / x.norm().clamp(min=_TINY)
        w[k] = scale * y / y.norm().clamp(min=_TINY)
    floor = a.mean() / 100  # a zero would stay one where its column has nothing to give at first
    return u.clamp(min=float(floor)), w.clamp(min=float(floor))


def _larger_part(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    positive = x.clamp(min=0), y.clamp(min=0)
    negative = (-x).clamp(min=0), (-y).clamp(min=0)
    size = [float(p.norm() * q.norm()) for p, q in (positive, negative)]
    return positive if size[0] >= size[1] else negative


def _singular(a: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular vectors and values, by the smaller of the two Gram matrices."""
    tall = a.shape[0] >= a.shape[1]
    squares, vectors = torch.linalg.eigh(a.T @ a if tall else a @ a.T)
    values = squares.flip(0)[:rank].clamp(min=0).sqrt()
    kept = vectors.flip(1)[:, :rank]
    other = (a @ kept if tall else a.T @ kept) / values.clamp(min=_TINY)
    return (other, values, kept.T) if tall else (kept, values, other.T)
