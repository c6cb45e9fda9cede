"""Concepts: what a class is made of, and whether it depends on what a user has pictures of."""
