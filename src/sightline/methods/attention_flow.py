"""Attention flow: how much of the class token's attention can reach each input token, by maximum flow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.errors import RefusedError
from sightline.methods.attention import Heads, attentions, fused_heads, layout_of, readers, residual, to_image
from sightline.methods.registry import method
from sightline.recording import Recording

__all__ = ["attention_flow"]

_SCALE = 1 << 28  # capacities are whole numbers of this share


@method(
    family="attention",
    cite="Abnar & Zuidema 2020, arXiv:2005.00928, sec. 3",
    reads="input",
    at="layer",
    style="sequential",
)
def attention_flow(rec: Recording, heads: Heads = "mean") -> Tensor:
    """The maximum flow from the class token through all blocks to each token, attention with residual as capacities.

    No class enters. A token that much attends to gets all there is, 1, so maps are flat; see attention_rollout. Exact,
    one maximum flow for each token: about ten seconds for an image of 197 tokens and twelve blocks.
    """
    found = rec.memo(attentions)
    if found[0].grid is not None:
        raise RefusedError(
            f"attention_flow: one maximum flow for each of {found[0].tokens} tokens within windows would take hours; "
            "use attention_rollout."
        )
    steps = torch.stack([residual(a, fused_heads(a.weights, heads)) for a in found], 1).double().cpu().numpy()
    first = readers(rec, found[-1]).double().cpu().numpy()
    skip = layout_of(rec, found[-1]).prefix
    flows = [_flows(blocks, start, skip, rec) for blocks, start in zip(steps, first, strict=True)]
    return to_image(rec, found[0], torch.from_numpy(np.stack(flows)).to(found[0].weights))


def _flows(blocks: np.ndarray, start: np.ndarray, skip: int, rec: Recording) -> np.ndarray:
    """Return the maximum flow to each token (T,) of one image, 0 for the first ``skip``."""
    from scipy.sparse.csgraph import maximum_flow

    graph = capacities(blocks, start)
    source, found = graph.shape[0] - 1, np.zeros(len(start))
    for token in range(skip, len(start)):
        found[token] = maximum_flow(graph, source, token).flow_value / _SCALE
        rec.tick(1)
    return found


def capacities(blocks: np.ndarray, start: np.ndarray):  # type: ignore[no-untyped-def]
    """Return the graph of blocks (L, T, T) and a source that feeds the top by ``start`` (T,), as a sparse matrix.

    Token i above block l, from 0, is node (l + 1) T + i and gives block[l, i, j] to token j below it.
    """
    from scipy.sparse import coo_matrix

    depth, tokens, _ = blocks.shape
    level, above, below = np.nonzero(blocks)
    (fed,) = np.nonzero(start)
    source = (depth + 1) * tokens
    rows = np.concatenate(((level + 1) * tokens + above, np.full(len(fed), source)))
    columns = np.concatenate((level * tokens + below, depth * tokens + fed))
    shares = np.concatenate((blocks[level, above, below], start[fed]))
    whole = np.round(shares * _SCALE).astype(np.int32)
    return coo_matrix((whole, (rows, columns)), shape=(source + 1, source + 1)).tocsr()
