"""Actors and services at work: mailboxes, turns, gates, commits, alarms and stubs; `DESIGN.md` says how."""

from stead.runtime.runtime import Limits, Runtime

__all__ = ["Limits", "Runtime"]
