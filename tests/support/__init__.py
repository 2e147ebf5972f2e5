"""Real parts for tests, benchmarks and the demo: a Kafka cluster, its tools, other clients."""
