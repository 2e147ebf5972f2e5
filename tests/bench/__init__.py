"""What sealing costs, measured: `make bench`, or `python -m tests.bench --help`.

    cases       what is measured, and the goals
    cluster     the broker, with a listener for each way to it
    ways        direct, through a bare byte-forwarder, through the proxy, through any other proxy
    forwarder   that byte-forwarder
    client      the librdkafka client, a process of its own
    java        Kafka's own performance tools
    rounds      one measurement after the other, the ways interleaved
    startup     idle memory, and start to first Metadata
    results     minimum, median, maximum and ratios, as a table and as JSON
    whole_way   a request and its answer through the core of the proxy, without sockets
    micro       the hot functions alone, in microseconds: `python -m tests.bench.micro`

All load stays on loopback. Figures of a busy machine are worth little; ratios within one run are worth more.
"""
