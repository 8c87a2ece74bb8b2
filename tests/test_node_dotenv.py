"""`.env`: what it can say, and errors that show the place and not the value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.manifest import ManifestErrors
from stead.node.dotenv import read_dotenv

TEXT = """# settings
PLAIN=some value  # and a comment
export EXPORTED = x#y
 EMPTY=
QUOTED="a \\"b\\" # no comment\\n$HOME" # a comment
SINGLE='as \\n it is'
PEM="-----BEGIN-----
abc
-----END-----"
LAST=1"""


def test_it_says_what_it_says(tmp_path: Path) -> None:
    """Plain and quoted values, comments, several lines; a byte order mark and other line ends; no file is no value."""
    expected = {
        "PLAIN": "some value",
        "EXPORTED": "x#y",
        "EMPTY": "",
        "QUOTED": 'a "b" # no comment\n$HOME',
        "SINGLE": "as \\n it is",
        "PEM": "-----BEGIN-----\nabc\n-----END-----",
        "LAST": "1",
    }
    path = tmp_path / ".env"
    assert read_dotenv(path) == {}
    path.write_text(TEXT)
    assert read_dotenv(path) == expected
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read_dotenv(path) == expected


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("A=1\nhunter2", 2, "is no NAME=value"),
        ("A=1\n\n1B=hunter2", 3, "is no NAME=value"),
        ('A="hunter2', 1, "quote that does not end"),
        ("A='hunter2\nB=1", 1, "quote that does not end"),
        ('A="x" hunter2', 1, "goes on behind"),
        ("A=1\nA=hunter2", 2, "sets A a second time"),
        ("=hunter2", 1, "is no NAME=value"),
    ],
)
def test_a_malformed_line_is_told_by_its_place(tmp_path: Path, text: str, line: int, said: str) -> None:
    """With file and line, what to do, and not a word of what may be a secret."""
    path = tmp_path / ".env"
    path.write_text(text)
    with pytest.raises(ManifestErrors, match=said) as caught:
        read_dotenv(path)
    assert (caught.value.file, caught.value.line) == (str(path), line) and caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    """Other encodings, directories and files without end."""
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\nB=\xff")
    with pytest.raises(ManifestErrors, match="UTF-8") as caught:
        read_dotenv(path)
    assert caught.value.line == 2
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(ManifestErrors, match="bytes"):
        read_dotenv(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestErrors, match="cannot be read"):
        read_dotenv(path)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_any_text_survives_quotes(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """In double quotes, with quotes and backslashes escaped, every value can be written."""
    path = tmp_path_factory.getbasetemp() / "any.env"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    path.write_text(f'A="{escaped}"\nB=2\n', "utf-8", newline="\n")
    assert read_dotenv(path) == {"A": value, "B": "2"}


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """It is read, or refused with a line of it."""
    path = tmp_path_factory.getbasetemp() / "wild.env"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        read_dotenv(path)
    except ManifestErrors as exc:
        assert 1 <= exc.line <= text.count("\n") + 1
