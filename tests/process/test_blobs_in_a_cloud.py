"""Bodies in a cloud's object store: the contract of blobs over S3, spoken to a server of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from stead.bindings import Blobs
from stead.node.blobs import ObjectBlobs
from tests.process.conftest import Serve, Server
from tests.process.test_s3 import create_credential
from tests.test_node_blobs import keep_what_was_written, leave_nothing_of_what_failed, list_and_delete

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cloud(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(Path(__file__).with_name("buckets"), tmp_path_factory.mktemp("cloud") / "data") as server:
        credential = create_credential(server)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", credential["access_key_id"])
            patch.setenv("AWS_SECRET_ACCESS_KEY", credential["secret_access_key"])
            patch.setenv("AWS_REGION", "auto")
            patch.setenv("AWS_ENDPOINT", f"http://s3.localhost:{server.port}")
            patch.setenv("AWS_ALLOW_HTTP", "true")
            patch.setenv("AWS_PROXY_URL", server.address.url)  # where small containers do not resolve s3.localhost
            yield server


@pytest.mark.parametrize("holds", [keep_what_was_written, list_and_delete, leave_nothing_of_what_failed])
def test_blobs(cloud: Server, holds: Callable[[Blobs], Awaitable[None]]) -> None:
    """As in a directory and in memory."""

    async def scenario() -> None:
        await holds(ObjectBlobs(f"s3://files/{holds.__name__}"))

    asyncio.run(scenario())
