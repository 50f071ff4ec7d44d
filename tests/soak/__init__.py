"""What goes wrong in weeks, in an hour: kills, crashes, faults of network and disk, races, hostile bytes.

    python -m tests.soak        everything, ending in the figures of docs/reliability.md
    tests/system/test_soak.py   the same with few seeds

Each module is one way to go wrong, with a function that does it from a seed. A broken promise is an AssertionError that names the
seed.
"""
