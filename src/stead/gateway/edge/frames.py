"""The frames of RFC 6455, section 5: bytes from a client become messages, messages become bytes.

`FrameReader` does no I/O and keeps no more than one incomplete message. Unread bytes lie in one piece: as they came while frames
are whole, which is nearly always, and in a growing `bytearray` otherwise, so that a frame cut into single bytes costs no more than
itself. Fragments are joined as they come, for the same reason. A frame that breaks a rule is refused by its header, before its
payload is waited for.
"""

from __future__ import annotations

from typing import NamedTuple

from stead.errors import SteadError

try:
    from websockets.speedups import apply_mask
except ImportError:  # where there is no compiler
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR, NO_CODE, LOST, NOT_TEXT, TOO_BIG = 1002, 1005, 1006, 1007, 1009

CONTROL_BYTES_MAX = 125  # the format's own bound
REASON_BYTES_MAX = CONTROL_BYTES_MAX - 2
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_VIEW_BYTES = 4096  # from here on a view is cheaper than a copy
_LENGTH_16 = 126  # from here on two bytes more say it, or eight


class Violation(SteadError):
    """The client broke the protocol or a limit. `code` is what its connection is closed with."""

    status = 400

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Control(NamedTuple):
    """A ping, a pong or the closing frame."""

    opcode: int
    payload: bytes


class FrameReader:
    """`feed` it what arrives, then `read` until it gives None. After a `Violation` it must not be used any more."""

    __slots__ = ("_data", "_is_text", "_message", "_message_bytes_max", "_position")

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._data: bytes | bytearray = b""  # unread from `_position` on
        self._position = 0
        self._message: bytearray | None = None  # the fragments so far
        self._is_text = False  # what they began with

    @property
    def unread_bytes(self) -> int:
        return len(self._data) - self._position

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        if self._position == len(self._data):
            self._data, self._position = data, 0
            return
        if self._position or isinstance(self._data, bytes):
            self._data, self._position = bytearray(memoryview(self._data)[self._position :]), 0
        self._data += data

    def read(self) -> str | bytes | Control | None:
        """The next message or control frame; None until there is more to read. Raises `Violation`."""
        while True:
            data, position = self._data, self._position
            size = len(data)
            if size - position < 2:
                return None
            head, length = data[position], data[position + 1] & ~_MASKED
            opcode = head & 0x0F
            if opcode > BINARY or head & _RESERVED or data[position + 1] < _MASKED or (opcode == 0) is (self._message is None):
                self._check(head, data[position + 1])
            start = position + 6
            if length >= _LENGTH_16:
                start += 2 if length == _LENGTH_16 else 8
                if size < start - 4:
                    return None
                length = int.from_bytes(data[position + 2 : start - 4], "big")
            if length > self._message_bytes_max or self._message is not None:
                self._check_size(opcode, length)
            end = start + length
            if size < end:
                return None
            payload = apply_mask(data[start:end] if length < _VIEW_BYTES else memoryview(data)[start:end], data[start - 4 : start])
            if end == size:
                self._data, self._position = b"", 0
            else:
                self._position = end
            if opcode >= CLOSE:
                return Control(opcode, payload)
            if head & _FINAL and self._message is None:
                return _text(payload) if opcode == TEXT else payload
            message = self._add(opcode, payload, bool(head & _FINAL))
            if message is not None:
                return message

    def _add(self, opcode: int, payload: bytes, is_final: bool) -> str | bytes | None:
        """Join a fragment to its message, which is returned with the last one."""
        if self._message is None:
            self._message, self._is_text = bytearray(), opcode == TEXT
        message = self._message
        message += payload
        if not is_final:
            return None
        self._message = None
        return _text(message) if self._is_text else bytes(message)

    def _check(self, head: int, second: int) -> None:
        """What the first two bytes of a frame must satisfy; called for whatever is not plainly a whole message."""
        opcode = head & 0x0F
        if head & _RESERVED:
            raise Violation(PROTOCOL_ERROR, "reserved bits are set, and no extension was agreed on")
        if not second & _MASKED:
            raise Violation(PROTOCOL_ERROR, "a client's frames must be masked")
        if opcode in {CLOSE, PING, PONG}:
            if not head & _FINAL:
                raise Violation(PROTOCOL_ERROR, "a control frame must not be fragmented")
            if second & ~_MASKED > CONTROL_BYTES_MAX:
                raise Violation(PROTOCOL_ERROR, f"a control frame has at most {CONTROL_BYTES_MAX} bytes")
        elif opcode == CONTINUATION:
            if self._message is None:
                raise Violation(PROTOCOL_ERROR, "a continuation without a beginning")
        elif opcode not in {TEXT, BINARY}:
            raise Violation(PROTOCOL_ERROR, f"opcode {opcode:#x} is reserved")
        elif self._message is not None:
            raise Violation(PROTOCOL_ERROR, "a new message before the last fragment of the one before")

    def _check_size(self, opcode: int, length: int) -> None:
        size = length + (len(self._message) if self._message is not None else 0)
        if size > self._message_bytes_max and opcode < CLOSE:
            raise Violation(TOO_BIG, f"a message of at least {size:,} bytes; the limit is {self._message_bytes_max:,}")


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as exc:
        raise Violation(NOT_TEXT, f"text must be UTF-8: {exc.reason} at byte {exc.start}") from exc


def is_sendable_code(code: int) -> bool:
    """Whether a closing frame may carry the code: it is registered, or free for applications (RFC 6455, section 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a closing frame; 1005 if it has none. Raises `Violation`."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not is_sendable_code(code):
        raise Violation(PROTOCOL_ERROR, "the closing frame has no valid code")
    return code, _text(payload[2:])


def encode_message(message: str | bytes) -> bytes:
    """A message as one frame."""
    return encode_frame(BINARY, message) if isinstance(message, bytes) else encode_frame(TEXT, message.encode())


def encode_close(code: int, reason: str) -> bytes:
    """A closing frame. A reason that is too long is cut between characters."""
    assert is_sendable_code(code), code
    text = reason.encode("utf-8", "replace")[:REASON_BYTES_MAX].decode("utf-8", "ignore").encode()
    return encode_frame(CLOSE, code.to_bytes(2, "big") + text)


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked frame, as servers send them."""
    length = len(payload)
    if length < _LENGTH_16:
        return bytes((_FINAL | opcode, length)) + payload
    if length < 0x10000:
        return b"%c\x7e%b%b" % (_FINAL | opcode, length.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (_FINAL | opcode, length.to_bytes(8, "big"), payload)
