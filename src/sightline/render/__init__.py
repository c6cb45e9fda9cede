"""Pictures of explanations, from plain numpy: overlays, cards, grids and a fragment for notebooks.

Importing it imports neither torch nor matplotlib, whose colours and fonts are read when first needed.
"""

from sightline.render.activations import activation_grid
from sightline.render.card import card
from sightline.render.contour import contours
from sightline.render.grid import Cell, grid
from sightline.render.html import explanation_html, png_bytes
from sightline.render.legend import legend
from sightline.render.overlay import View, alpha_scaled, heatmap_image, masked, overlay
from sightline.render.palette import DEFAULT_COLORMAPS, Style, colour_table
from sightline.render.scale import Limits, limits, map_notes, normalise
from sightline.render.table import Prediction, prediction_table

__all__ = [
    "DEFAULT_COLORMAPS",
    "Cell",
    "Limits",
    "Prediction",
    "Style",
    "View",
    "activation_grid",
    "alpha_scaled",
    "card",
    "colour_table",
    "contours",
    "explanation_html",
    "grid",
    "heatmap_image",
    "legend",
    "limits",
    "map_notes",
    "masked",
    "normalise",
    "overlay",
    "png_bytes",
    "prediction_table",
]
