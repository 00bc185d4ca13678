"""The simulator: fault histories, checkers and reports over the engine of `mesh.testing`."""

from __future__ import annotations
