"""Who may use the S3 endpoint of an application: keys and secrets, kept by one actor.

A signature is checked with the secret itself, so it is stored as it is: what guards the data directory guards it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stead.api import Actor, Env, Namespace, reads
from stead.bindings.bucket.values import random_hex
from stead.codec import convert
from stead.errors import Invalid

CREDENTIALS_MAX = 1000  # of one application
_ALL = "all"  # the name of the actor
_ID_DIGITS = 15


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A key to buckets: to those named, or to all of them (None)."""

    access_key_id: str
    buckets: list[str] | None
    read_only: bool
    created_at: datetime
    secret_access_key: str | None = None  # not where it is listed

    def allows(self, bucket: str) -> bool:
        return self.buckets is None or bucket in self.buckets


class CredentialStore(Actor):
    async def add(self, credential: Credential) -> None:
        if len(await self.storage.list()) >= CREDENTIALS_MAX:
            raise Invalid(f"an application has at most {CREDENTIALS_MAX:,} credentials; delete those that nobody uses")
        await self.storage.put(credential.access_key_id, credential)

    async def remove(self, access_key_id: str) -> bool:
        return await self.storage.delete(access_key_id)

    @reads
    async def find(self, access_key_id: str) -> Credential | None:
        return await self.storage.get(access_key_id, type=Credential)

    @reads
    async def everyone(self) -> list[Credential]:
        return [convert(stored, Credential) for stored in (await self.storage.list()).values()]


class Credentials:
    """The credentials of an application."""

    def __init__(self, namespace: Namespace[Any], env: Env) -> None:
        self._namespace = namespace
        self._env = env

    async def create(self, buckets: list[str] | None = None, read_only: bool = False) -> Credential:
        """A new credential, with the secret that is shown nowhere else."""
        credential = Credential(
            access_key_id=f"STEAD{random_hex(self._namespace)[:_ID_DIGITS].upper()}",
            buckets=buckets,
            read_only=read_only,
            created_at=self._env.now(),
            secret_access_key=random_hex(self._namespace) + random_hex(self._namespace),
        )
        await self._store.add(credential)
        return credential

    async def all(self) -> list[Credential]:
        """All of them, without their secrets."""
        return [msgspec.structs.replace(found, secret_access_key=None) for found in await self._store.everyone()]

    async def delete(self, access_key_id: str) -> bool:
        """End a credential at once. False if there is none."""
        return bool(await self._store.remove(access_key_id))

    async def find(self, access_key_id: str) -> Credential | None:
        found: Credential | None = await self._store.find(access_key_id)
        return found

    @property
    def _store(self) -> Any:
        return self._namespace.get(_ALL)
