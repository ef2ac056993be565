"""Reading the recipients file: which lines are recipients, and why the others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from reliq.demo.command import SAMPLE
from reliq.demo.recipients import Malformed, Recipient, UnusableFile, parse, read

HEADER = b"name,email,order\n"


def reason_of(line: bytes) -> str:
    found = parse([HEADER, line])
    assert not found.recipients
    (malformed,) = found.malformed
    assert malformed.line == 2
    return malformed.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"Ann,,A-1\n", "no email", id="no-email"),
        pytest.param(b",ann@example.org,A-1\n", "no name", id="no-name"),
        pytest.param(b"Ann,ann@example.org, \n", "no order", id="no-order"),
        pytest.param(b"Ann,ann.example.org,A-1\n", "no @ in the address 'ann.example.org'", id="no-at"),
        pytest.param(b"Ann,a@n@example.org,A-1\n", "2 @ in the address 'a@n@example.org'", id="two-at"),
        pytest.param(b"Ann,an n@example.org,A-1\n", "a space in the address 'an n@example.org'", id="space"),
        pytest.param(b"Ann,ann@localhost,A-1\n", "no valid domain after the @", id="no-domain"),
        pytest.param(b"Ann,.ann@example.org,A-1\n", "no valid name before the @", id="leading-dot"),
        pytest.param("Ann,änn@example.org,A-1\n".encode(), "a letter outside ASCII", id="not-ascii"),
        pytest.param(b"Ann," + b"a" * 65 + b"@example.org,A-1\n", "too many characters", id="long-local"),
        pytest.param(b"An\x07n,ann@example.org,A-1\n", "control character U+0007 at position 3", id="control"),
        pytest.param(b"An\rBcc: x,ann@example.org,A-1\n", "control character U+000D at position 3", id="injection"),
        pytest.param("An\u2028n,ann@example.org,A-1\n".encode(), "U+2028", id="line-separator"),
        pytest.param(b"An\xc3\x28n,ann@example.org,A-1\n", "not UTF-8: byte 0xc3 at position 3", id="bad-utf8"),
        pytest.param(b"Ann,ann@example.org\n", "2 columns instead of 3", id="few-columns"),
        pytest.param(b"Ann,ann@example.org,A-1,x\n", "4 columns instead of 3", id="many-columns"),
        pytest.param(b"\n", "0 columns instead of 3", id="empty"),
        pytest.param(b'"Ann,ann@example.org,A-1\n', "not CSV: unexpected end of data", id="open-quote"),
        pytest.param("ä".encode() * 101 + b",ann@example.org,A-1\n", "name of 101 characters", id="long-name"),
        pytest.param(b"Ann,ann@example.org," + b"1" * 41, "order of 41 characters", id="long-order"),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(line: bytes, reason: str) -> None:
    """Whatever is wrong with a line is said in words."""
    assert reason in reason_of(line)


def test_a_line_that_is_longer_than_any_recipient_is_one_malformed_line(tmp_path: Path) -> None:
    """It is not read whole, and the lines behind it keep their numbers."""
    file = tmp_path / "recipients.csv"
    file.write_bytes(HEADER + b"x" * 35_000 + b"\nAnn,ann@example.org,A-1\n")
    found = read(file)
    assert [line.line for line in found.malformed] == [2]
    assert "longer than 10000 bytes" in found.malformed[0].reason
    assert [recipient.line for recipient in found.recipients] == [3]


def test_a_broken_line_spoils_no_other() -> None:
    """An open quote ends with its line."""
    found = parse(
        [HEADER, b'"Open,o@example.org,1\n', b'"Ek, Nora",nora@example.org,2\r\n', "Zoë,zoe@example.org,3".encode()]
    )
    assert [recipient.name for recipient in found.recipients] == ["Ek, Nora", "Zoë"]
    assert found.malformed == [Malformed(2, "not CSV: unexpected end of data")]
    assert found.lines == 3


def test_names_of_all_scripts_are_kept_as_they_are() -> None:
    """Nothing is normalised, stripped of marks, or reordered."""
    names = ["Łukasz Żółć", "Ελένη", "Їжак", "李小龍", "محمد بن سعيد", "דוד בן־דוד", "Ann 👩🏽‍💻", "e\u0301"]
    lines = [f"{name},a@example.org,{i}\n".encode() for i, name in enumerate(names)]
    assert [recipient.name for recipient in parse([HEADER, *lines]).recipients] == names


def test_columns_may_stand_in_any_order_and_among_others() -> None:
    """They are found by the names in the first line, also behind a byte order mark."""
    found = parse([b"\xef\xbb\xbfOrder,phone, Email ,Name\r\n", b"A-1,555,ann@example.org,Ann\r\n"])
    assert found.recipients == [Recipient(2, "Ann", "ann@example.org", "A-1")]


@pytest.mark.parametrize("header", [b"", b"\n", b"name,mail,order\n", b"name;email;order\n", b"\xff\xfe\n", b'"name\n'])
def test_a_file_without_the_columns_is_refused(header: bytes) -> None:
    """Nothing is guessed from the lines."""
    with pytest.raises(UnusableFile, match="name,email,order"):
        parse([header, b"Ann,ann@example.org,A-1\n"])


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    """With the reason of the operating system."""
    with pytest.raises(UnusableFile, match="directory"):
        read(tmp_path)


def test_ids_depend_on_line_and_address_alone() -> None:
    """The same file gives the same ids; the same address in two lines gives two."""
    ann = Recipient(2, "Ann", "ann@example.org", "A-1")
    assert ann.item_id == Recipient(2, "Anne", "ann@example.org", "A-2").item_id
    assert ann.item_id == "b630877c-fffa-56d7-9453-e7911c721b44"
    assert ann.item_id != Recipient(3, "Ann", "ann@example.org", "A-1").item_id
    assert ann.item_id != Recipient(2, "Ann", "anne@example.org", "A-1").item_id


def test_the_sample_has_2000_lines_with_a_dozen_malformed_ones() -> None:
    """As shipped; all its addresses are in domains that nobody can own."""
    found = read(SAMPLE)
    assert (found.lines, len(found.recipients), len(found.malformed)) == (2000, 1988, 12)
    assert len({recipient.item_id for recipient in found.recipients}) == 1988
    domains = {".".join(recipient.email.split("@")[1].split(".")[-2:]) for recipient in found.recipients}
    assert domains == {"example.org", "example.com", "example.net"}


def test_the_malformed_lines_of_the_sample_are_all_different() -> None:
    """Each shows another reason."""
    assert len({line.reason.split(":")[0] for line in read(SAMPLE).malformed}) == 12
