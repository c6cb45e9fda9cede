"""Audit of a store: what the model looks at, class by class, and what of that is a shortcut."""
