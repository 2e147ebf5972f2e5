"""The exit code says the worst."""

import pytest

from kveil.proxy.doctor.findings import Finding, Level, exit_code, failure, ok, skipped, worst

GOOD = ok("a", "fine")
LEFT = skipped("b", "not looked at")
BAD = failure("c", "broken", "mend it")


def of_level(level):
    return Finding(level=level, check="x", what="y", remedy="z")


@pytest.mark.parametrize(
    ("levels", "expected", "code"),
    [
        ((), Level.OK, 0),
        ((Level.OK, Level.OK), Level.OK, 0),
        ((Level.SKIPPED, Level.OK), Level.SKIPPED, 0),
        ((Level.OK, Level.WARNING, Level.SKIPPED), Level.WARNING, 3),
        ((Level.WARNING, Level.FAILURE, Level.OK), Level.FAILURE, 1),
    ],
)
def test_the_worst_counts(levels, expected, code):
    findings = [of_level(level) for level in levels]
    assert (worst(findings), exit_code(findings)) == (expected, code)


def test_what_is_not_well_has_a_remedy():
    assert (GOOD.remedy, LEFT.remedy, BAD.remedy) == (None, None, "mend it")
