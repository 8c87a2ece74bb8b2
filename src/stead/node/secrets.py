"""Secrets at rest: a file for each in the data directory, encrypted with one key.

    secrets/<NAME>      12 bytes of nonce, then the value in AES-256-GCM; the name is authenticated with it
    secrets.key         the key, made at first use; STEAD_SECRETS_KEY takes its place

Both are readable by their owner only, and a file is replaced whole. The key file protects a backup of the data that leaves it out,
not the data directory itself; where that is not enough the key comes from the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from stead.errors import Invalid
from stead.ids import Chance

KEY_VARIABLE = "STEAD_SECRETS_KEY"
VALUE_BYTES_MAX = 64 * 1024
KEY_BYTES, NONCE_BYTES = 32, 12
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_KEY = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")


class SecretStore:
    """The secrets in a data directory. `environ` may have the key."""

    def __init__(self, data: Path, environ: Mapping[str, str]) -> None:
        self._folder = data / "secrets"
        self._key_file = data / "secrets.key"
        self._environ = environ

    def get(self, name: str) -> str | None:
        """The value of a secret, None if there is none. Raises `Invalid` if it cannot be read, without a word of it."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Invalid(f"the secret {name} cannot be read: {exc.strerror}") from exc
        value = _decrypt(self._key(), name, data)
        if value is None:
            hint = f"give the key it was set with, or set it again: stead secrets set {name}"
            raise Invalid(
                f"the secret {name} cannot be decrypted: {self._key_place()} is another key, or its file is damaged\n  hint: {hint}"
            )
        return value

    def set(self, name: str, value: str) -> None:
        """Keep a value, durably when this returns."""
        path = self._path(name)
        data = value.encode()
        if not 0 < len(data) <= VALUE_BYTES_MAX or "\0" in value:
            raise Invalid(f"a secret has 1 to {VALUE_BYTES_MAX:,} bytes of text without NUL")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self._key(make=True)
        _write(path, _encrypt(key, name, data))

    def delete(self, name: str) -> bool:
        """Forget a secret, and say whether there was one."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def names(self) -> dict[str, datetime]:
        """The secrets that are kept, and when each was set."""
        if not self._folder.is_dir():
            return {}
        files = sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
        return {path.name: datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in files}

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Invalid("a secret's name has letters, digits and _, a letter first")
        return self._folder / name

    def _key(self, *, make: bool = False) -> bytes:
        text = self._environ.get(KEY_VARIABLE)
        if text is None:
            if make and not self._key_file.exists():
                _write(self._key_file, Chance().hex(KEY_BYTES).encode())
            try:
                text = self._key_file.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError):
                hint = f"restore the file, or give the key as {KEY_VARIABLE}"
                raise Invalid(f"the key of the secrets, {self._key_file}, cannot be read\n  hint: {hint}") from None
        if not _KEY.fullmatch(text):
            hint = "make one with: openssl rand -hex 32"
            raise Invalid(f"{self._key_place()} is no key: it must have {2 * KEY_BYTES} hexadecimal digits\n  hint: {hint}")
        return bytes.fromhex(text)

    def _key_place(self) -> str:
        return KEY_VARIABLE if KEY_VARIABLE in self._environ else str(self._key_file)


def _encrypt(key: bytes, name: str, value: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - a start without secrets does not wait for it

    nonce = bytes.fromhex(Chance().hex(NONCE_BYTES))
    return nonce + AESGCM(key).encrypt(nonce, value, name.encode())


def _decrypt(key: bytes, name: str, data: bytes) -> str | None:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - as above

    try:
        return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], name.encode()).decode()
    except (InvalidTag, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Make or replace a file that its owner alone may read, whole and durably."""
    partial = path.with_name(f"{path.name}.{Chance().hex(4)}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise Invalid(f"{path} cannot be written: {exc.strerror}") from exc
    finally:
        partial.unlink(missing_ok=True)
