"""What a node keeps between its starts."""

import stat

import pytest

from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.node_files import ChainEnd, CheckpointMark, Membership, NodeFiles

MEMBERSHIP = Membership("demo", bytes(range(32)))
MARK = CheckpointMark(7, b"\x07" * 32)


@pytest.fixture
def files(tmp_path):
    files = NodeFiles(tmp_path / "identity")
    files.directory.mkdir()
    files.enrol(MEMBERSHIP, MARK)
    return files


def test_what_was_enrolled_is_read_back(files):
    assert files.is_enrolled
    assert files.membership() == MEMBERSHIP
    assert files.mark() == MARK
    for path in files.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_node_belongs_to_one_realm(files):
    with pytest.raises(IdentityError, match="already"):
        files.enrol(Membership("other", bytes(32)), MARK)
    assert files.membership() == MEMBERSHIP


def test_a_mark_only_grows(files):
    newer = CheckpointMark(9, b"\x09" * 32)
    files.keep_mark(newer)
    files.keep_mark(CheckpointMark(8, b"\x08" * 32))
    assert NodeFiles(files.directory).mark() == newer


def test_a_node_that_has_lost_its_mark_refuses(files):
    (files.directory / "checkpoint.json").unlink()
    with pytest.raises(IdentityError, match="enrol as a new identity"):
        files.mark()
    with pytest.raises(IdentityError):
        files.keep_mark(MARK)


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{}", b'{"version": 2}', b'{"version": 1}', b'{"version": 1, "number": -1, "hash": "00"}']
)
def test_a_damaged_mark_is_no_mark(files, damage):
    (files.directory / "checkpoint.json").write_bytes(damage)
    with pytest.raises(IdentityError):
        files.mark()


def test_a_file_that_others_may_change_is_refused(files):
    (files.directory / "checkpoint.json").chmod(0o666)
    with pytest.raises(IdentityError, match="chmod"):
        files.mark()


def test_each_process_has_a_chain_of_its_own(files):
    first, second = files.take_chain(), NodeFiles(files.directory).take_chain()
    assert first.end.chain != second.end.chain
    end = ChainEnd(chain=first.end.chain, sequence=3, hash=b"\x03" * 32, record=b"announced")
    first.advance(end)
    first.close()
    assert NodeFiles(files.directory).take_chain().end == end, "the next one goes on with it"
    second.close()


def test_a_damaged_chain_is_said(files):
    (files.directory / "chain-0.json").write_text('{"version": 1, "chain": "00"}')
    (files.directory / "chain-0.json").chmod(0o600)
    with pytest.raises(IdentityError, match="damaged"):
        files.take_chain()
