"""What sealing costs, measured: `make bench`, or `python -m tests.bench --help`.

    cases, goals    what is measured, how much of it, and what it should come to
    cluster         the broker, with a listener for each way to it
    ways            direct, through a bare byte-forwarder, through the proxy, through any other proxy
    forwarder       that byte-forwarder
    client, java    the clients: librdkafka in a process of its own, and Kafka's own performance tools
    rounds          throughput: one measurement after the other, the ways interleaved
    latency, paced  single messages at a steady pace, by all ways in turns
    alone           one proxy process between a source and a sink that cost next to nothing
    memory          under load, and with thousands of connections
    startup         start to first Metadata, and idle memory
    workers         two worker processes beside one
    growth          ever more partitions in one request, through the proxy's core without sockets (whole_way)
    usage           CPU time and memory of a process and its children
    results         minimum, median, maximum and ratios
    tables, picture, report    the same for people, for the docs, and as JSON
    micro           the hot functions alone, in microseconds: `python -m tests.bench.micro`

All load stays on loopback. Figures of a busy machine are worth little; ratios within one run are worth more.
"""
