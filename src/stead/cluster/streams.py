"""Bodies that flow between nodes: those of requests to the node that answers them, those of responses to the node that was asked.

Who has a body *offers* it under a token, and the token travels with the event or its answer. Who wants it *pulls*: it opens a
conversation with the token, and the body comes on that, a window at a time. So nothing of a request is read before its turn wants
it (an event that did not run can be sent again), and a response is run where its generator lives, when somebody listens.

A body is pulled once. A response that nobody pulls is forgotten after `OFFER_S`. Either side that goes away is noticed by the
other: the one who sends finds the client gone, the one who hears has half a body, which it never takes for a whole one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from stead.api import Response
from stead.cluster.conversation import Conversation, Listener
from stead.cluster.peers import Peers, Unreachable
from stead.cluster.wire import MALFORMED, Broken, Chunk, Gone, Head, Piece, Pull, decode_piece, encode
from stead.errors import Ambiguous
from stead.runtime import Tasks, packed, unpacked

OFFER_S = 30.0  # that an answer may lie on its way to a client
PIECE_BYTES = 64 * 1024  # of a body, in one payload: a window holds several


class ClientGone(OSError):
    """Nobody hears the response any more: what ASGI's `send` raises then."""


Produce = Callable[["Outflow", Pull], Coroutine[Any, Any, None]]


class Outflow:
    """A body on its way out."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.is_gone = False
        self.waits_for_client: asyncio.Task[Any] | None = None  # which has no end of its own once nobody listens

    async def put(self, piece: Piece) -> None:
        """Send a piece once the other side has room. Raises `ClientGone` if there is no other side any more."""
        await self._conversation.wait_room()
        if self.is_gone:
            raise ClientGone("the client has gone")
        self._conversation.send(encode(piece))

    async def put_body(self, data: bytes, is_last: bool) -> None:
        """Send bytes in pieces."""
        while len(data) > PIECE_BYTES:
            await self.put(Chunk(bytes(data[:PIECE_BYTES]), False))
            data = data[PIECE_BYTES:]
        if data or is_last:
            await self.put(Chunk(bytes(data), is_last))

    def end(self, error: Exception | None) -> None:
        """Nothing more comes, or it failed."""
        if error is not None:
            self._conversation.send(encode(Broken(packed(error))))
        self._conversation.end()

    def received(self, payload: bytes) -> None:
        self._conversation.consumed(len(payload))

    def ended(self) -> None:
        return

    def lost(self) -> None:
        self.is_gone = True
        if self.waits_for_client is not None:
            self.waits_for_client.cancel()


class Inflow:
    """A body on its way in."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[Piece, int]] = deque()
        self._is_over = self._is_lost = False
        self._news = asyncio.Event()
        self._conversation: Conversation | None = None

    def begin(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def next(self) -> Piece | None:
        """The next piece; None at the end. Raises `Ambiguous` if the other side was lost before."""
        while not self._pieces:
            if self._is_lost:
                raise Ambiguous("the node that sent this was lost before it was whole")
            if self._is_over:
                return None
            self._news.clear()
            await self._news.wait()
        piece, size_bytes = self._pieces.popleft()
        assert self._conversation is not None
        self._conversation.consumed(size_bytes)
        return piece

    def close(self) -> None:
        """Want no more."""
        if self._conversation is not None:
            self._conversation.abort()
        self.lost()

    def received(self, payload: bytes) -> None:
        try:
            piece = decode_piece(payload)
        except MALFORMED:
            self.close()
            return
        self._pieces.append((piece, len(payload)))
        self._news.set()

    def ended(self) -> None:
        self._is_over = True
        self._news.set()
        if self._conversation is not None:
            self._conversation.end()

    def lost(self) -> None:
        self._is_lost = not self._is_over
        self._news.set()


class Offer(msgspec.Struct, eq=False):
    """A body that somebody may pull."""

    produce: Produce
    is_request: bool
    on_end: Callable[[], None]  # called once, when it has flowed or nobody pulled it
    timer: asyncio.TimerHandle | None = None


class Streams:
    """The bodies of one node."""

    def __init__(self, peers: Peers, tasks: Tasks) -> None:
        self._loop = asyncio.get_running_loop()
        self._peers = peers
        self._tasks = tasks
        self._offers: dict[int, Offer] = {}
        self._responses: set[Offer] = set()  # offered, or flowing
        self._token = 0

    @property
    def is_idle(self) -> bool:
        """Whether no response of this node is on its way to another one."""
        return not self._responses

    def offer_request(self, receive: Receive) -> int:
        """Let a request's body be pulled, until `withdraw`."""

        async def produce(outflow: Outflow, pull: Pull) -> None:
            await _send_request(receive, outflow)

        return self._offer(Offer(produce, True, _nothing))

    def offer_response(self, response: Response, scope: Scope, receive: Receive, on_end: Callable[[], None]) -> int:
        """Let a response be pulled, within `OFFER_S`. `on_end` is called when it has been sent, or never will be."""

        async def produce(outflow: Outflow, pull: Pull) -> None:
            await _run_response(response, scope, receive, outflow, pull.asgi)

        def end() -> None:
            self._responses.discard(offer)
            on_end()

        offer = Offer(produce, False, end)
        self._responses.add(offer)
        token = self._offer(offer)
        self.expire(token)
        return token

    def is_offered(self, token: int) -> bool:
        """Whether nobody has pulled it yet."""
        return token in self._offers

    def expire(self, token: int) -> None:
        """Withdraw an offer soon, if it is there still."""
        offer = self._offers.get(token)
        if offer is not None and offer.timer is None:
            offer.timer = self._loop.call_later(OFFER_S, self.withdraw, token)

    def withdraw(self, token: int) -> None:
        """Let nobody pull it any more."""
        offer = self._take(token)
        if offer is not None:
            offer.on_end()

    def _take(self, token: int) -> Offer | None:
        offer = self._offers.pop(token, None)
        if offer is not None and offer.timer is not None:
            offer.timer.cancel()
        return offer

    def pulled(self, pull: Pull, conversation: Conversation) -> Listener:
        """A peer wants what was offered."""
        outflow = Outflow(conversation)
        offer = self._take(pull.token)
        if offer is None:
            conversation.abort()
            return outflow
        task = self._tasks.start(self._run(offer, outflow, pull))
        if offer.is_request:
            outflow.waits_for_client = task
        return outflow

    def pull(self, incarnation: int, token: int, asgi: str = "") -> Inflow:
        """What a peer offered. An inflow from a peer that cannot be reached is lost."""
        inflow = Inflow()
        try:
            inflow.begin(self._peers.open(incarnation, encode(Pull(token, asgi)), inflow))
        except Unreachable:
            inflow.lost()
        return inflow

    def close(self) -> None:
        for token in list(self._offers):
            self.withdraw(token)

    def _offer(self, offer: Offer) -> int:
        self._token += 1
        self._offers[self._token] = offer
        return self._token

    async def _run(self, offer: Offer, outflow: Outflow, pull: Pull) -> None:
        error: Exception | None = None
        try:
            await offer.produce(outflow, pull)
        except Exception as exc:  # noqa: BLE001 - whatever the application's response raises is told to who asked for it
            error = exc
        finally:
            offer.on_end()
        outflow.end(error)


def _nothing() -> None:
    return


async def _send_request(receive: Receive, outflow: Outflow) -> None:
    """What a client sends, until it is gone or nobody listens."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            await outflow.put(Gone())
            return
        await outflow.put_body(message.get("body", b""), not message.get("more_body", False))


async def _run_response(response: Response, scope: Scope, receive: Receive, outflow: Outflow, asgi: str) -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await outflow.put(Head(message["status"], list(message.get("headers", ()))))
        elif message["type"] == "http.response.body":
            await outflow.put_body(message.get("body", b""), not message.get("more_body", False))

    if asgi:
        scope = {**scope, "asgi": {"version": "3.0", "spec_version": asgi}}
    await response(scope, receive, send)


class RemoteBody:
    """ASGI's `receive` for a request that came from another node."""

    def __init__(self, streams: Streams, incarnation: int, token: int, has_body: bool) -> None:
        self._streams = streams
        self._incarnation = incarnation
        self._token = token
        self._is_empty = not has_body  # and nobody was told so yet
        self._inflow: Inflow | None = None
        self._is_closed = False

    async def __call__(self) -> Message:
        if self._is_empty:
            self._is_empty = False
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._is_closed:
            return {"type": "http.disconnect"}
        if self._inflow is None:
            self._inflow = self._streams.pull(self._incarnation, self._token)
        try:
            piece = await self._inflow.next()
        except Ambiguous:
            return {"type": "http.disconnect"}
        if isinstance(piece, Chunk):
            return {"type": "http.request", "body": piece.data, "more_body": not piece.is_last}
        return {"type": "http.disconnect"}

    def close(self) -> None:
        """The request is answered: its client need not be listened to."""
        self._is_closed = True
        if self._inflow is not None:
            self._inflow.close()


class RemoteResponse(Response):
    """A response that another node runs, once this is called."""

    def __init__(self, streams: Streams, incarnation: int, token: int, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.raw_headers = headers
        self.background = None
        self._streams = streams
        self._incarnation = incarnation
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inflow = self._streams.pull(self._incarnation, self._token, scope.get("asgi", {}).get("spec_version", ""))
        is_whole = False
        try:
            while (piece := await inflow.next()) is not None:
                if isinstance(piece, Head):
                    await send({"type": "http.response.start", "status": piece.status, "headers": piece.headers})
                elif isinstance(piece, Chunk):
                    is_whole = piece.is_last
                    await send({"type": "http.response.body", "body": piece.data, "more_body": not piece.is_last})
                elif isinstance(piece, Broken):
                    raise unpacked(piece.error)
            if not is_whole:
                raise Ambiguous("the response ended before it was whole")
        finally:
            inflow.close()
