"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is the machine's to say, which may have other work.
settings.register_profile("stead", settings.default, deadline=None)
settings.load_profile("stead")
