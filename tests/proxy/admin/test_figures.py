"""Numbers for people."""

import pytest

from kveil.proxy.admin import figures
from kveil.proxy.admin.metrics import BOUNDS, Histogram
from kveil.proxy.admin.overview import CHARTED, POINTS


def buckets(*seconds: float) -> list[float]:
    histogram = Histogram()
    for one in seconds:
        histogram.observe(one)
    return [value for name, value in histogram.samples("h").items() if "_bucket" in name]


def point(at: float, sealed_bytes: float = 0, seal: list[float] | None = None) -> tuple[float, list[float]]:
    nothing = [0.0] * (len(BOUNDS) + 1)
    values = [sealed_bytes, 0, 0, 0, *(seal or nothing), *nothing]
    assert len(values) == len(CHARTED)
    return at, values


class TestQuantile:
    def test_of_nothing(self):
        assert figures.quantile(buckets(), 0.99) is None

    def test_lies_in_the_bucket_of_what_was_observed(self):
        assert 0.0005 < figures.quantile(buckets(*[0.0007] * 10), 0.99) <= 0.001
        assert 0.25 < figures.quantile(buckets(*[0.0007] * 9, 0.3), 0.99) <= 0.5

    def test_one_in_a_hundred_is_not_in_it(self):
        assert figures.quantile(buckets(*[0.0007] * 200, 5), 0.99) <= 0.001

    def test_beyond_the_last_bound_is_no_number_to_be_had(self):
        assert figures.quantile(buckets(1000), 0.99) == BOUNDS[-1]


class TestCourse:
    def test_rates(self):
        found = figures.course([point(10, 0), point(12, 600), point(14, 600)])
        assert found.sealed_bytes[-2:] == [300, 0]
        assert len(found.sealed_bytes) == POINTS - 1
        assert found.sealed_bytes[-3] is None  # nobody looked then

    @pytest.mark.parametrize("points", [[], [point(10)]])
    def test_nothing_is_known_at_the_beginning(self, points):
        assert set(figures.course(points).sealed_bytes) == {None}
        assert len(figures.course(points).seal_p99) == POINTS - 1

    def test_all_of_it(self):
        found = figures.course([point(at * 2.0, at * 10) for at in range(POINTS)])
        assert found.sealed_bytes == [5] * (POINTS - 1)

    def test_counts_that_fall_and_clocks_that_stand(self):
        found = figures.course([point(10, 600), point(12, 0), point(12, 50)])
        assert found.sealed_bytes[-2:] == [0, 0]

    def test_latency_is_of_what_was_new(self):
        slow, both = buckets(3), buckets(3, *[0.0007] * 500)
        found = figures.course([point(0), *(point(2 * at, seal=slow) for at in range(1, 7)), point(14, seal=both)])
        assert found.seal_p99[-1] <= 0.001
        assert found.seal_p99[-2] is None
        assert found.open_p99[-1] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1234, "1.23 kB"), (5_600_000, "5.6 MB"), (1e18, "1e+03 PB")],
)
def test_sizes(value, text):
    assert figures.in_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 µs"), (0.00025, "250 µs"), (0.0025, "2.5 ms"), (0.1, "100 ms"), (2.5, "2.5 s")]
)
def test_short_times(value, text):
    assert figures.in_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3600 * 5 + 130, "5 h 2 min"), (90000, "1 d 1 h")]
)
def test_ages(value, text):
    assert figures.in_words(value) == text


def test_counts():
    assert figures.in_thousands(1234567) == "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"
    assert figures.in_thousands(999.6) == "1\N{NARROW NO-BREAK SPACE}000"
