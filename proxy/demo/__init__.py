"""`kveil demo`: the whole way from an application to the broker's disk and back, on a cluster of its own.

    clusters    librdkafka's mock cluster, or the real broker of the test harness
    sidecar     the proxy as a process of its own
    round_trip  stock clients: what was written, what is stored, what was read
    verdict     whether that was exact, and whether plaintext was seen
    report      both shown side by side

`confluent_kafka` and `rich` are imported in here and nowhere else in the product.
"""
