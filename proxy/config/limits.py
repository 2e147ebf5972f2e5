"""Defaults and bounds, each with its reason. docs/configuration.md lists the ones that can be set."""

from typing import Final

# The broker's own limit for a request (socket.request.max.bytes). librdkafka closes above 100,000,000.
FRAME_BYTES: Final = 100 * 1024 * 1024
# Below this an ordinary Metadata answer of a middling cluster would not pass.
FRAME_BYTES_LEAST: Final = 64 * 1024
# The length of a frame is a signed 32-bit number.
FRAME_BYTES_MOST: Final = 2**31 - 1

# What large frames may take together: five of the longest, or ten answers to consumers with Java's default of 50 MB
# (fetch.max.bytes), and still a small part of a host that has thousands of connections.
BUFFERED_BYTES: Final = 512 * 1024 * 1024
# One ordinary frame. A longer one than the budget passes too, alone.
BUFFERED_BYTES_LEAST: Final = 1024 * 1024

# One client connection costs two descriptors and, while it is idle, less than 10 kB. A sidecar sees tens, a gateway
# thousands.
MAX_CONNECTIONS: Final = 5_000

# Java gives a connection 10 s (socket.connection.setup.timeout.ms): the client should hear of a failure
# before that.
CONNECT_TIMEOUT_SECONDS: Final = 8.0
# How long a client's TLS handshake may take at a listener, and its login again: Java's 10 s for a connection too.
LOGIN_SECONDS: Final = 10.0
# `docker stop` kills after 10 s, Kubernetes after 30 s: be done before either.
DRAIN_SECONDS: Final = 8.0
# How long a topic's settings are believed. Admins change them elsewhere, and no broker tells.
TOPIC_SETTINGS_SECONDS: Final = 60.0
# They must outlive the moment between their being read and the frame that waits for them.
TOPIC_SETTINGS_SECONDS_LEAST: Final = 0.1

# envelope.md, "Limits": how long one epoch key seals. It can be lowered, not raised.
EPOCH_KEY_HOURS: Final = 24.0
# A reader of a long history meets one epoch key per producer process, topic and day. About 1 kB each.
OPENED_KEYS: Final = 10_000
# Epoch keys of record keys, which stay in memory wrapped, about 350 bytes each.
RECORD_KEYS: Final = 1_000_000
# How long sealing goes on before the key's service is asked again whether it may: the worst case between a key's being
# disabled and the last batch sealed under it. Two calls in ten minutes for each key.
SEAL_LEASE_SECONDS: Final = 300.0
# How long an unwrapped key opens: the worst case between a key's being disabled and the last batch opened.
UNWRAP_CACHE_SECONDS: Final = 3600.0
# One try of a call to a key service. It answers in milliseconds; a client's own request lives for 30 s.
KEY_CALL_TIMEOUT_SECONDS: Final = 5.0
# How long a kid that didn't unwrap is refused without another try: long enough to make inventing kids
# pointless, short enough that an operator who mends something need not wait.
REFUSED_KEY_SECONDS: Final = 10.0

# Ports that listen from the start: local ports are the bootstrap port + 1 + node id for ids below this.
BROKER_PORTS: Final = 100
# Each is a listening socket from the start.
BROKER_PORTS_MOST: Final = 10_000

# More processes than one host's network card and one cluster's brokers keep busy.
WORKERS_MOST: Final = 64

# Audit events that a sink hasn't taken: some 600 bytes each, and minutes of a busy gateway.
AUDIT_QUEUE: Final = 10_000
# What one request may still cause once no further one is served must fit into half of it.
AUDIT_QUEUE_LEAST: Final = 16
# Some 600 MB.
AUDIT_QUEUE_MOST: Final = 1_000_000
# 11 files of 100 MB hold about two million events.
AUDIT_FILE_BYTES: Final = 100 * 1000 * 1000
# An event is never split, and several fit into a file.
AUDIT_FILE_BYTES_LEAST: Final = 64 * 1024
AUDIT_FILES: Final = 10
# Each rotation renames all of them.
AUDIT_FILES_MOST: Final = 1_000
# Which part of the requests is traced: enough to see where time goes, at a cost that nobody notices.
TRACES_SAMPLED: Final = 0.01

# A configuration file of this size is the wrong file.
CONFIG_BYTES: Final = 1024 * 1024
