"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# No test passes or fails by the speed of a machine. A failing example prints the line that replays it.
settings.register_profile("gossipmesh", deadline=None, print_blob=True)
settings.load_profile("gossipmesh")
