"""How long refused credentials are left alone."""

from kveil.proxy.credentials.refusals import MOST_SECONDS, Refusals


def test_each_refusal_doubles_the_time():
    refusals, now = Refusals(), 0.0
    waits = []
    for _ in range(9):
        refusals.refused(b"a", "wrong password", now)
        wait = next(seconds for seconds in range(100) if refusals.why_not(b"a", now + seconds) is None)
        waits.append(wait)
        now += wait
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert MOST_SECONDS == 60


def test_logins_at_the_same_time_count_once():
    refusals = Refusals()
    for _ in range(10):
        refusals.refused(b"a", "wrong password", 0.0)
    assert refusals.why_not(b"a", 0.9)
    assert refusals.why_not(b"a", 1.0) is None


def test_other_credentials_are_tried_at_once():
    refusals = Refusals()
    refusals.refused(b"a", "wrong password", 0.0)
    assert refusals.why_not(b"b", 0.1) is None


def test_the_reason_is_told_again():
    refusals = Refusals()
    refusals.refused(b"a", "wrong password", 0.0)
    assert refusals.why_not(b"a", 0.1) == "wrong password (tried again in 1 s, or when the secret changes)"


def test_a_success_ends_it():
    refusals = Refusals()
    for now in (0.0, 1.0, 3.0):
        refusals.refused(b"a", "wrong password", now)
    refusals.accepted()
    assert refusals.why_not(b"a", 3.1) is None
    refusals.refused(b"a", "wrong password", 4.0)
    assert refusals.why_not(b"a", 5.0) is None
