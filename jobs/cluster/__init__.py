"""Runs the command as a job of a Ray cluster."""
