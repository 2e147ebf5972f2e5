"""The sidecar: sockets, settings, keys and what is done with each Kafka request."""
