"""Reads the corpus: fragments of files, their readers, tokens, the survey, the selection of rows, the sample.

It may import errors, arrays, hashing, store, plan and recipe.
"""
