"""Bytes in, values out: the Kafka protocol and the sealed format. No sockets, clocks, logging or settings."""
