"""The cluster's key, and where a node may listen without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead.cluster import KEY_VARIABLE, TlsFiles, WebSocketNetwork, check_exposure, read_keys
from stead.cluster.keys import split_address
from stead.errors import Invalid

KEY = "0123456789abcdef0123456789abcdef"


def test_the_key_is_found(tmp_path: Path) -> None:
    """In a file that only its owner can read, else in the environment; without spaces around it; there may be none."""
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"{KEY}-of-the-file\n")
    assert read_keys({}) == ()
    assert read_keys({KEY_VARIABLE: f" {KEY}\n"}) == (KEY.encode(),)
    assert read_keys({KEY_VARIABLE: KEY}, str(file)) == (f"{KEY}-of-the-file".encode(),)


def test_there_are_several_while_one_takes_the_place_of_another(tmp_path: Path) -> None:
    """Between commas, or on lines of their own; each must be a key, and there are few."""
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"{KEY}-old\n{KEY}-new\n")
    both = (f"{KEY}-old".encode(), f"{KEY}-new".encode())
    assert read_keys({KEY_VARIABLE: f"{KEY}-old,{KEY}-new"}) == read_keys({}, str(file)) == both
    with pytest.raises(Invalid, match="one of the 2 keys in STEAD_CLUSTER_KEY, which commas or white space divide, has 5 bytes"):
        read_keys({KEY_VARIABLE: f"{KEY},short"})
    with pytest.raises(Invalid, match="5 keys in STEAD_CLUSTER_KEY, and 4 at most"):
        read_keys({KEY_VARIABLE: ",".join([KEY] * 5)})


def test_a_key_that_protects_nothing_is_refused(tmp_path: Path) -> None:
    """Short, empty, readable by others, not there: the message says where, and what to do."""
    file = tmp_path / "key"
    with pytest.raises(Invalid, match="key in STEAD_CLUSTER_KEY has 5 bytes; set STEAD_CLUSTER_KEY, or a key file"):
        read_keys({KEY_VARIABLE: "short"})
    with pytest.raises(Invalid, match="has 0 bytes"):
        read_keys({KEY_VARIABLE: ""})
    with pytest.raises(Invalid, match="cannot be read from"):
        read_keys({}, str(file))
    file.write_text(KEY)
    file.chmod(0o640)
    with pytest.raises(Invalid, match="others can read.*chmod 600"):
        read_keys({}, str(file))
    file.chmod(0o600)
    file.write_bytes(b"\xff" * 40)
    with pytest.raises(Invalid, match="cannot be read from"):
        read_keys({}, str(file))


def test_files_of_tls_that_cannot_be_used(tmp_path: Path) -> None:
    """They are named at the start, not at the first connection."""
    files = TlsFiles(str(tmp_path / "a.pem"), str(tmp_path / "a.key"), str(tmp_path / "ca.pem"))
    with pytest.raises(Invalid, match=r"certificates for channels cannot be used .*a\.pem.*ca\.pem"):
        WebSocketNetwork((), files)


@pytest.mark.parametrize("address", ["127.0.0.1:7400", "127.8.8.8:0", "[::1]:7400", "localhost:7400"])
def test_loopback_may_be_open(address: str) -> None:
    """Only this machine gets there."""
    check_exposure(address, (), has_tls=False)


@pytest.mark.parametrize("address", ["0.0.0.0:7400", "[::]:7400", "10.0.0.1:7400", "db.internal:7400", "localhost.example:7400"])
def test_elsewhere_needs_a_key_or_certificates(address: str) -> None:
    """Either is enough, and nothing else is."""
    with pytest.raises(Invalid, match=f"listen on {address.partition(':')[0][:3]}".replace("[", r"\[")):
        check_exposure(address, (), has_tls=False)
    check_exposure(address, (KEY.encode(),), has_tls=False)
    check_exposure(address, (), has_tls=True)


def test_addresses() -> None:
    """Host and port, brackets around IPv6; anything else is named."""
    assert split_address("node-1.local:7400") == ("node-1.local", 7400)
    assert split_address("[::1]:0") == ("::1", 0)
    for address in ("", "host", ":7400", "host:", "host:port", "host:99999", "host:-1", "host:７"):
        with pytest.raises(Invalid, match="is no address"):
            split_address(address)
