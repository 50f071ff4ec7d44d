"""From the plan to files: rows are spilled in runs, assembled into shards, encoded in formats.

Imports store, plan, recipe and corpus.
"""
