"""Explanations while a net learns: fixed images, every few epochs, as grids and film strips."""
