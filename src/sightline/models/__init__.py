"""Models: loading them, and what an explanation needs to know of them."""
