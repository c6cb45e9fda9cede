"""Ground truth without download: mosaics of images, scenes with masks, tetrominoes, watermarks, nets made by hand."""
