"""Which document goes where, as arithmetic on integers: quotas, streams, routing, packing.

Imports errors, arrays and hashing; knows no store and no engine.
"""
