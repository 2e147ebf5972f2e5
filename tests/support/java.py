"""Kafka's own Java clients and tools, run as child processes.

java_tool(CONSOLE_PRODUCER, "--bootstrap-server", cluster.bootstrap, "--topic", "t", stdin="one\\ntwo\\n")
with start_java_tool(VERIFIABLE_CONSUMER, ...) as consumer:
    consumer.lines.wait_for("records_consumed", timeout=30)
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.jvm import JAVA, class_path, java_command, java_options
from tests.support.processes import Child, ChildFailedError, run
from tests.support.security import properties_text
from tests.support.start_up_cache import ensure_start_up_cache

_TOOLS = "org.apache.kafka.tools"
CONSOLE_PRODUCER = f"{_TOOLS}.ConsoleProducer"
CONSOLE_CONSUMER = f"{_TOOLS}.consumer.ConsoleConsumer"
CONSOLE_SHARE_CONSUMER = f"{_TOOLS}.consumer.ConsoleShareConsumer"
PRODUCER_PERFORMANCE = f"{_TOOLS}.ProducerPerformance"
CONSUMER_PERFORMANCE = f"{_TOOLS}.ConsumerPerformance"
END_TO_END_LATENCY = f"{_TOOLS}.EndToEndLatency"
VERIFIABLE_PRODUCER = f"{_TOOLS}.VerifiableProducer"
VERIFIABLE_CONSUMER = f"{_TOOLS}.VerifiableConsumer"
VERIFIABLE_SHARE_CONSUMER = f"{_TOOLS}.VerifiableShareConsumer"
TOPICS = f"{_TOOLS}.TopicCommand"
GET_OFFSETS = f"{_TOOLS}.GetOffsetShell"
CONSUMER_GROUPS = f"{_TOOLS}.consumer.group.ConsumerGroupCommand"
SHARE_GROUPS = f"{_TOOLS}.consumer.group.ShareGroupCommand"
DELETE_RECORDS = f"{_TOOLS}.DeleteRecordsCommand"
CONFIGS = "kafka.admin.ConfigCommand"
COMPILER = "org.eclipse.jdt:ecj:3.42.0"
_ECJ = "org.eclipse.jdt.internal.compiler"
DUMP_LOG = "kafka.tools.DumpLogSegments"

HEAP_MB = 256


def java_tool(
    main_class: str,
    *arguments: str,
    stdin: str | None = None,
    timeout: float = 120.0,
    check: bool = True,
    heap_mb: int = HEAP_MB,
    options: Sequence[str] = (),
    extra_jars: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end; with `check`, a failure raises with what it said."""
    ensure_start_up_cache()
    command = java_command(main_class, *arguments, heap_mb=heap_mb, options=options, extra_jars=extra_jars)
    done = run(command, stdin=stdin, timeout=timeout)
    if check and done.returncode:
        raise ChildFailedError(f"{main_class} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def start_java_tool(
    main_class: str,
    *arguments: str,
    heap_mb: int = HEAP_MB,
    options: Sequence[str] = (),
    extra_jars: Sequence[str] = (),
    path: str | None = None,
) -> Child:
    """Start a long runner: use it in a `with` block, read `lines` and `errors`."""
    ensure_start_up_cache()
    command = java_command(main_class, *arguments, heap_mb=heap_mb, options=options, extra_jars=extra_jars, path=path)
    return Child(command)


def compile_java(folder: Path, *sources: Path, jars: Sequence[str] = ()) -> str:
    """Compile files with Eclipse's compiler, which needs no JDK; gives the folder, for `extra_jars`."""
    path = os.pathsep.join([class_path(), *jars])
    flags = ("-proc:none", "-source", "17", "-target", "17", "-cp", path, "-d", str(folder))
    command = [JAVA, *java_options(HEAP_MB), "-cp", class_path((COMPILER,)), f"{_ECJ}.batch.Main", *flags]
    done = run([*command, *map(str, sources)])
    if done.returncode:
        raise ChildFailedError(f"it does not compile:\n{done.stdout}{done.stderr}")
    return str(folder)


@contextmanager
def properties_file(settings: Mapping[str, str]) -> Iterator[str]:
    """A properties file for `--command-config`, `--producer.config` and the like."""
    with tempfile.TemporaryDirectory(prefix="kveil-java-") as folder:
        path = Path(folder, "client.properties")
        path.touch(mode=0o600)
        path.write_text(properties_text(settings))
        yield str(path)
