"""Evaluation: what a mixture does to a language model, measured on held-out text from the shards of a version.

Texts become a pool of windows; a judge scores mixtures on it; statistics say which differences are real. Neither Ray nor Arrow is
needed but to read shards, so that models train on a machine with torch and transformers alone.
"""
