"""What a model takes for what, over images of known classes."""
