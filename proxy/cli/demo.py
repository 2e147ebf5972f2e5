"""`kveil demo`: the main job on a cluster of its own, shown side by side."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli.apps import command_app
from kveil.proxy.demo.clusters import Cluster, Kafka, start_cluster
from kveil.proxy.demo.errors import DemoError, DemoFailed, DemoImpossible

if TYPE_CHECKING:
    from kveil.proxy.demo.report import Report
    from kveil.proxy.demo.sidecar import Sidecar

app = command_app()

_LOOK_SECONDS: Final = 0.5
_ENDED_BY_SIGNAL: Final = 128


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up for your own clients, until Ctrl-C.")] = False,
    kafka: Annotated[
        Kafka, typer.Option("--kafka", help="The mock cluster, or a real Apache Kafka (from the source tree).")
    ] = Kafka.MOCK,
) -> None:
    """Show what it does: start a cluster and the proxy, write, and see what the broker holds and a consumer gets."""
    try:
        _check_client()
        with _ended_in_order():
            good = _demonstrate(kafka, keep=keep)
    except DemoError as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(0 if good else 1)


def _check_client() -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise DemoImpossible(
            "the demo is a Kafka client too, and confluent-kafka isn't installed: `pip install 'kveil[demo]'`, "
            "or in a clone of the repository `make demo`"
        ) from None


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, so that the proxy and all files go too."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(_ENDED_BY_SIGNAL + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _demonstrate(kafka: Kafka, *, keep: bool) -> bool:
    """Give the whole demonstration, and return whether it went well."""
    from kveil.proxy.demo.report import Report
    from kveil.proxy.demo.sidecar import running_sidecar

    report = Report()
    if kafka is Kafka.REAL:
        report.line("Apache Kafka starts; the very first time its jars are downloaded, which takes a minute ...")
    with start_cluster(kafka) as cluster, running_sidecar(cluster) as sidecar:
        report.started(cluster, sidecar)
        good = _round_trip(report, cluster, sidecar)
        if keep:
            report.stays(cluster, sidecar)
            _wait_for_ctrl_c(sidecar)
            report.line("Ended: the cluster, the proxy and its keys are gone.")
    return good


def _round_trip(report: "Report", cluster: Cluster, sidecar: "Sidecar") -> bool:
    from kveil.proxy.demo.round_trip import more_records, read, read_stored, shown_records, write
    from kveil.proxy.demo.verdict import judge

    shown = write(sidecar.bootstrap, shown_records())
    more = write(sidecar.bootstrap, more_records(), **{"compression.type": "lz4"})
    stored = read_stored(cluster.bootstrap)
    got = read(sidecar.bootstrap, len(shown) + len(more))
    report.side_by_side(shown, stored, got)
    report.counted(more, stored)
    verdict = judge([*shown, *more], stored, got, cluster.disk_holds)
    report.verdict(verdict, cluster)
    return verdict.is_good


def _wait_for_ctrl_c(sidecar: "Sidecar") -> None:
    """Return at Ctrl-C.

    :raises DemoFailed: the proxy ended before.
    """
    pressed = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        while not pressed.wait(_LOOK_SECONDS):
            if sidecar.has_ended:
                raise DemoFailed(f"the proxy has ended; it said:\n{sidecar.log_path.read_text()[-2000:]}")
    finally:
        signal.signal(signal.SIGINT, before)
