"""Files of documents, in a bucket; what is in them is counted when they have arrived."""

from __future__ import annotations

from stead import Message, Observer
from stead.bindings import ObjectBody

from .documents import Document


class DocumentProcessor(Observer):
    """Hears of every file that comes, at least once each."""

    async def process(self, message: Message) -> None:
        key = message.body["object"]["key"]
        found = await self.env.DOCUMENTS.get(key)  # which is the latest, whatever the event was about
        words = len((await found.bytes()).decode(errors="replace").split()) if isinstance(found, ObjectBody) else None
        await self.env.actor(Document).get(key).set_words(words)
