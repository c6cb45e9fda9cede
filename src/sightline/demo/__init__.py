"""The embedded demo: scenes whose answer is known, and two networks that see them differently."""
