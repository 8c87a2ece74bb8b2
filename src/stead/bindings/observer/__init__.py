"""Code that reacts to messages: the service around an application's observer."""

from stead.bindings.observer.service import observer_service

__all__ = ["observer_service"]
