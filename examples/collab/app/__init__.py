"""A collaborative platform: people log in, write documents together, talk in rooms and hear of each other's changes.

One file for each noun: what a noun remembers is an actor, what the rest of the application may do with it stands beside it. `api`
is the only file that knows HTTP.
"""

from .api import Api
from .auth import Auth, UserSession
from .chat import ChatRoom
from .documents import Document
from .emails import EmailSender
from .files import DocumentProcessor
from .notifications import Notifications

__all__ = [
    "Api",
    "Auth",
    "ChatRoom",
    "Document",
    "DocumentProcessor",
    "EmailSender",
    "Notifications",
    "UserSession",
]
