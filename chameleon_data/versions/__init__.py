"""Committed builds: manifests, versions and tags, proof, comparison, garbage collection.

Imports everything below; writes the one create-only file that commits.
"""
