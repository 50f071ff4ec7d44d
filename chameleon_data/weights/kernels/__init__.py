"""Kernels, and the landmarks that stand for all samples where a kernel has no finite features.

Imports domain_statistics, affinity and leverage of weights/.
"""
