"""A nursery that does not wrap what goes wrong in it, as long as that is one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """For nurseries that are nobody's business but ours: a caller who raises ValueError in our block wants a ValueError back."""
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        sole = group.exceptions[0]
        context = sole.__context__
        try:
            raise sole
        finally:
            sole.__context__ = context
            del sole, context
