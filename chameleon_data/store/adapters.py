"""What turns records into plain values and back. It loads no Arrow, so that records of trials work on a bare machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import TypeAdapter

type_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Reads plain values as a type, and checks them. To make one takes milliseconds, so each is made once."""
