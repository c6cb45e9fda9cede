"""Explanations of data sets of any size: sources, two engines, a store that survives being killed, queries, audit."""
