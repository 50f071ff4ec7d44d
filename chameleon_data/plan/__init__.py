"""Which document goes where, as arithmetic on integers: quotas, streams, routing, packing.

Imports errors and hashing; knows no store and no engine.
"""
