"""Files in a folder, local or in an object store: whole or absent, created once, checked by sums.

Imports errors and hashing.
"""
