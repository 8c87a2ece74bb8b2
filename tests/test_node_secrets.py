"""Secrets at rest: what was set comes back with the right key, and nothing else does; where variables have their values from."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stead.errors import Invalid
from stead.manifest import ManifestErrors, parse_manifest
from stead.node import SecretStore, find_values, resolved
from stead.node.variables import application_variables

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
VALUE = "hunter2-très-secret"
MANIFEST = """application "a" {
  env "API_KEY" { secret = true }
  env "LEVEL" { default = "info" }
  service "api" { visibility = "public" env "TOKEN" { secret = true } }
}
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_set_comes_back(tmp_path: Path) -> None:
    """Until it is set again or deleted; the files are their owner's only, and no byte of them is the value's."""
    store = SecretStore(tmp_path / "data", {})
    assert store.get("API_KEY") is None and store.names() == {}
    store.set("API_KEY", VALUE)
    store.set("PEM", "two\nlines")
    again = SecretStore(tmp_path / "data", {})
    assert (again.get("API_KEY"), again.get("PEM")) == (VALUE, "two\nlines")
    assert list(again.names()) == ["API_KEY", "PEM"]
    folder = tmp_path / "data" / "secrets"
    assert (mode(folder), mode(folder / "API_KEY"), mode(tmp_path / "data" / "secrets.key")) == (0o700, 0o600, 0o600)
    before = (folder / "API_KEY").read_bytes()
    assert VALUE.encode() not in before
    again.set("API_KEY", VALUE)
    assert (folder / "API_KEY").read_bytes() != before  # another nonce
    assert again.delete("API_KEY") and not again.delete("API_KEY") and again.get("API_KEY") is None
    assert list(folder.iterdir()) == [folder / "PEM"]


def test_without_the_key_nothing_is_read(tmp_path: Path) -> None:
    """Another key, a file under another name, one that was changed: each is refused, and says nothing of the value."""
    store = SecretStore(tmp_path, {"STEAD_SECRETS_KEY": KEY})
    store.set("API_KEY", VALUE)
    assert not (tmp_path / "secrets.key").exists()
    assert store.get("API_KEY") == VALUE
    path = tmp_path / "secrets" / "API_KEY"
    (tmp_path / "secrets" / "MOVED").write_bytes(path.read_bytes())
    (tmp_path / "secrets" / "CUT").write_bytes(path.read_bytes()[:20])
    (tmp_path / "secrets" / "EMPTY").write_bytes(b"")
    for environ, name in [
        ({"STEAD_SECRETS_KEY": OTHER_KEY}, "API_KEY"),
        ({"STEAD_SECRETS_KEY": KEY}, "MOVED"),
        ({"STEAD_SECRETS_KEY": KEY}, "CUT"),
        ({"STEAD_SECRETS_KEY": KEY}, "EMPTY"),
    ]:
        with pytest.raises(Invalid, match=f"the secret {name} cannot be decrypted") as caught:
            SecretStore(tmp_path, environ).get(name)
        assert VALUE not in str(caught.value) and KEY not in str(caught.value) and OTHER_KEY not in str(caught.value)
    with pytest.raises(Invalid, match="secrets.key, cannot be read"):
        SecretStore(tmp_path, {}).get("API_KEY")
    with pytest.raises(Invalid, match="64 hexadecimal digits") as caught:
        SecretStore(tmp_path, {"STEAD_SECRETS_KEY": "hunter2"}).get("API_KEY")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "", "a/b", "1A", "A" * 200, "secrets.key"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    """Nothing outside the folder is read or written."""
    store = SecretStore(tmp_path, {})
    for work in (lambda: store.set(name, VALUE), lambda: store.get(name), lambda: store.delete(name)):
        with pytest.raises(Invalid, match="name"):
            work()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 70_000])
def test_a_value_has_bounds(tmp_path: Path, value: str) -> None:
    """And is not shown where it has not."""
    with pytest.raises(Invalid, match="a secret has 1 to 65,536 bytes"):
        SecretStore(tmp_path, {}).set("A", value)


def test_the_first_place_that_has_a_value_counts(tmp_path: Path) -> None:
    """The environment, then `.env` in development, then the secrets, then the default."""
    manifest, data = parse_manifest(MANIFEST, "m"), tmp_path / "data"
    store = SecretStore(data, {})
    store.set("API_KEY", "from secrets")
    store.set("TOKEN", "token from secrets")
    store.set("LEVEL", "level from secrets")
    (tmp_path / ".env").write_text("API_KEY=from dotenv\nTOKEN=from dotenv\nOTHER=nobody asks\n")
    found = find_values(manifest, tmp_path, store, {"API_KEY": "from environment", "PATH": "/bin"}, is_development=True)
    assert found == {
        "API_KEY": ("from environment", "environment"),
        "LEVEL": ("level from secrets", "stead secrets"),
        "TOKEN": ("from dotenv", ".env"),
    }
    assert resolved(manifest, tmp_path, data, {})["TOKEN"] == "token from secrets"
    store.delete("LEVEL")
    assert application_variables(manifest, resolved(manifest, tmp_path, data, {}))["LEVEL"] == "info"


def test_a_missing_secret_names_itself(tmp_path: Path) -> None:
    """All of them at once, with their places in the manifest and how to set them."""
    manifest = parse_manifest(MANIFEST, "stead.manifest")
    with pytest.raises(ManifestErrors) as caught:
        application_variables(manifest, resolved(manifest, tmp_path, tmp_path / "data", {}))
    assert [error.problem for error in caught.value.errors] == ["secret API_KEY has no value", "secret TOKEN has no value"]
    assert caught.value.line == 2 and "stead secrets set API_KEY" in caught.value.hint


def test_cryptography_is_loaded_for_secrets_only() -> None:
    """The command starts without it."""
    code = "import sys, stead.cli; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
