"""From the plan to files: rows are spilled as runs, assembled into shards, and encoded in formats.

Imports store, plan, recipe and corpus.
"""
