"""`kveil doctor`: the way from this host to the cluster and back, looked at piece by piece.

Each module is about one kind of thing. Most are in halves: one that looks, and one that says what there is to say.

    findings       a level, a sentence, a remedy, and the exit code of many
    examination    one check after the other, each with a deadline; what depends on a failed one is skipped
    files          who may read and change the files of the configuration
    certificates   how long they are good
    keys           whether each key that the rules name wraps and unwraps
    reach          the way to one broker: name, addresses, TLS, Kafka
    reached        what there is to say of it
    cluster        the login, the APIs, the brokers' places
    topics         settings that will make trouble
    canary         a record through the proxy's own code to the broker and back
    canary_seen    what there is to say of it, and of the broker's clock
    checks         all of them in their order
"""
