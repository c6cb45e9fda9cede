"""The metrics, a file for each family or idea: plain functions over a case."""
