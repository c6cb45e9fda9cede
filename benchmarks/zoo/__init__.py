"""Coverage: every architecture family times every method, each map against a reference of its own."""
