"""Manifests as Raindrop's users write them, with nothing of our own in them, served whole: every block does its work.

A block is alive where something shows that nothing else in the manifest could have brought about. The table of effects has to name
every block that a manifest declares.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from stead.manifest import Application, load_manifest
from tests.process.conftest import LIMIT_S, STEAD, Serve, Server, environment
from tests.process.test_s3 import MIB, client_of, create_credential, resolving_names
from tests.process.test_sockets import until

pytestmark = pytest.mark.process

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOP, PLATFORM = EXAMPLES / "shopping_cart", EXAMPLES / "collab"
DAY_MS = 86_400_000
RAINDROPS = {"module": "app", "env": ()}  # what an application has without saying so


@dataclass(frozen=True)
class Platform:
    """A server of the collaborative platform, and two who have logged in."""

    server: Server
    ann: httpx.Client
    bob: httpx.Client
    s3: Any

    def queues(self, *arguments: str) -> Any:
        """What `stead queues` says of it."""
        return stead("queues", *arguments, "--data", str(self.server.data))

    def listen(self, path: str, who: httpx.Client) -> ClientConnection:
        headers = {"authorization": who.headers["authorization"]}
        return connect(f"ws://127.0.0.1:{self.server.port}{path}", additional_headers=headers, open_timeout=LIMIT_S)

    def save_together(self, name: str) -> str:
        """A document that both have written, and what the first author is told of it."""
        assert self.ann.put(f"/documents/{name}", json={"text": "ann's", "based_on": 0}).status_code == 200
        assert self.bob.put(f"/documents/{name}", json={"text": "both's", "based_on": 1}).json() == {"version": 2}
        return f"bob saved version 2 of {name}"

    def mails(self, text: str) -> list[str]:
        """To whom mails with this text were sent."""
        return [mail["to"] for mail in self.ann.get("/outbox").json()["mails"] if mail["text"] == text]

    def words(self, name: str) -> int | None:
        found: int | None = self.ann.get(f"/documents/{name}").json().get("words")
        return found


def stead(*arguments: str) -> Any:
    command = [sys.executable, *STEAD, *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def logged_in(server: Server, user: str) -> Iterator[httpx.Client]:
    with server.client() as client:
        token = client.post("/login", json={"user": user, "password": "open sesame"}).json()["token"]
        client.headers["authorization"] = f"Bearer {token}"
        yield client


@contextmanager
def entered(server: Server) -> Iterator[Platform]:
    with logged_in(server, "ann") as ann, logged_in(server, "bob") as bob, resolving_names():
        s3 = client_of(server, create_credential(server))
        yield Platform(server, ann, bob, s3)
        s3.close()


@pytest.fixture(scope="module")
def platform(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with serve(PLATFORM, tmp_path_factory.mktemp("platform") / "data") as server, entered(server) as platform:
        yield platform


def api_answers_at_its_address(platform: Platform) -> None:
    assert platform.ann.get("/me", headers={"host": "collab.localhost"}).json()["user"] == "ann"


def auth_knows_the_password(platform: Platform) -> None:
    assert platform.ann.post("/login", json={"user": "ann", "password": "sesame"}).status_code == 401


def user_session_ends_alone(platform: Platform) -> None:
    with logged_in(platform.server, "eve") as first, logged_in(platform.server, "eve") as second:
        assert first.post("/logout").status_code == 204
        assert (first.get("/me").status_code, second.get("/me").status_code) == (401, 200)


def notifications_tells_the_others(platform: Platform) -> None:
    with platform.listen("/notifications/live", platform.ann) as socket:
        told = platform.save_together("told")
        texts = iter(lambda: json.loads(socket.recv(LIMIT_S))["text"], told)
        assert told not in list(texts)  # which ends at it: what came before were older ones
    assert told in platform.ann.get("/notifications").json()["notifications"]
    assert told not in platform.bob.get("/notifications").json()["notifications"]


def document_refuses_what_is_outdated(platform: Platform) -> None:
    platform.save_together("plan")
    assert platform.ann.put("/documents/plan", json={"text": "old", "based_on": 1}).status_code == 409
    assert [found["version"] for found in platform.ann.get("/documents/plan/versions").json()["versions"]] == [2, 1]


def chat_room_is_heard(platform: Platform) -> None:
    with platform.listen("/rooms/lobby/live", platform.ann) as socket:
        assert platform.bob.post("/rooms/lobby/messages", json={"text": "hello"}).json() == {"id": 1}
        assert json.loads(socket.recv(LIMIT_S)) == {"id": 1, "author": "bob", "text": "hello"}
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{platform.server.port}/rooms/lobby/live"):
        pass


def documents_keeps_files_for_both_sides(platform: Platform) -> None:
    assert platform.ann.post("/documents/kept/upload", content=b"a b c").json()["size"] == 5
    found = platform.s3.get_object(Bucket="documents", Key="kept")
    assert found["Body"].read() == b"a b c" and found["Metadata"] == {"author": "ann"}


def document_processor_hears_of_every_way_in(platform: Platform) -> None:
    s3 = platform.s3
    s3.put_object(Bucket="documents", Key="put", Body=b"one two three")
    s3.copy_object(Bucket="documents", Key="copied", CopySource={"Bucket": "documents", "Key": "put"})
    in_parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(b"w " * (3 * MIB)), "documents", "large", Config=in_parts)
    for name, words in (("put", 3), ("copied", 3), ("large", 3 * MIB)):
        until(lambda name=name, words=words: platform.words(name) == words)  # type: ignore[misc]


def email_jobs_holds_what_waits(platform: Platform) -> None:
    def waiting() -> list[str]:
        return [message["body"]["text"] for message in platform.queues("peek", "email-jobs")["messages"]]

    platform.queues("pause", "email-jobs")
    told = platform.save_together("waiting")
    assert told in waiting() and platform.mails(told) == []
    platform.queues("resume", "email-jobs")
    until(lambda: platform.mails(told) == ["ann"])
    until(lambda: waiting() == [])


def email_sender_sends_once(platform: Platform) -> None:
    told = platform.save_together("mailed")
    until(lambda: platform.mails(told) == ["ann"])
    (queue,) = [queue for queue in platform.queues("list")["queues"] if queue["name"] == "email-jobs"]
    assert (queue["observer"], queue["dead_letters"], queue["paused"]) == ("email-sender", 0, False)


EFFECTS: dict[str, Callable[[Platform], None]] = {
    "api": api_answers_at_its_address,
    "auth": auth_knows_the_password,
    "notifications": notifications_tells_the_others,
    "user-session": user_session_ends_alone,
    "document": document_refuses_what_is_outdated,
    "chat-room": chat_room_is_heard,
    "documents": documents_keeps_files_for_both_sides,
    "document-processor": document_processor_hears_of_every_way_in,
    "email-jobs": email_jobs_holds_what_waits,
    "email-sender": email_sender_sends_once,
}


def manifest_of(place: Path) -> Application:
    """What an example declares. It says nothing that Raindrop does not know."""
    manifest = load_manifest(place / "stead.manifest")
    assert {name: getattr(manifest, name) for name in RAINDROPS} == RAINDROPS
    return manifest


@pytest.mark.parametrize("name", EFFECTS)
def test_every_block_of_the_platform_is_alive(platform: Platform, name: str) -> None:
    """It has its own effect, in a server with nothing but what the manifest declares."""
    EFFECTS[name](platform)


def test_no_block_of_the_platform_is_left_out() -> None:
    """The effects are of all its blocks, and `stead check` finds nothing wrong and a class for each that has one."""
    assert {unit.name for unit in manifest_of(PLATFORM).units} == EFFECTS.keys()
    checked = stead("check", str(PLATFORM))
    assert checked["ok"] and {unit["name"] for unit in checked["units"] if not unit["class"]} == {"documents", "email-jobs"}


def test_the_platform_outlives_its_process(serve: Serve, tmp_path: Path) -> None:
    """After kill -9 the same token finds the same session, versions, messages, notifications, words and mails."""
    pages = ("/me", "/documents/plan", "/rooms/lobby/messages", "/notifications", "/outbox")

    def seen(client: httpx.Client) -> list[Any]:
        return [client.get(page).json() for page in pages]

    with serve(PLATFORM, tmp_path / "data") as server, entered(server) as platform:
        told = platform.save_together("plan")
        platform.ann.post("/rooms/lobby/messages", json={"text": "hello"})
        platform.ann.post("/documents/plan/upload", content=b"one two")
        until(lambda: platform.words("plan") == 2 and platform.mails(told) == ["ann"])
        before = seen(platform.ann)
        assert server.end(signal.SIGKILL) < 0
    with serve(PLATFORM, tmp_path / "data") as server, server.client() as again:
        again.headers["authorization"] = platform.ann.headers["authorization"]
        assert seen(again) == before and all(before)


def test_the_shop_is_alive(serve: Serve, tmp_path: Path) -> None:
    """`api` answers at the address that its domain says; a cart remembers what went in, across kill -9, each user's its own."""
    assert {unit.name for unit in manifest_of(SHOP).units} == {"api", "shopping-cart"}
    shop = {"host": "shop-api.localhost"}
    with serve(SHOP, tmp_path / "data") as server, server.client() as client:
        for count in (1, 2):
            added = client.post("/carts/ann/items", headers=shop, json={"product_id": "tea", "quantity": count})
            assert added.json() == {"success": True, "item_count": count}
        before = client.get("/carts/ann", headers=shop).json()
        assert server.end(signal.SIGKILL) < 0
    with serve(SHOP, tmp_path / "data") as server, server.client() as client:
        after = client.get("/carts/ann", headers=shop).json()
        assert after == before and [item["quantity"] for item in after["items"]] == [1, 2]
        assert after["expires_at"] - after["items"][-1]["added_at"] == DAY_MS
        assert client.get("/carts/bob", headers=shop).json() == {"items": [], "expires_at": None}
        assert client.post("/carts/ann/checkout", headers=shop).json()["order"]["total_items"] == 3
