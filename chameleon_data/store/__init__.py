"""Files in a folder, local or in an object store: each is there whole or not at all, and a name is taken once.

Imports errors, arrays and hashing.
"""
