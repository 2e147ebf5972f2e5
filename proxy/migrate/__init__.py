"""`kveil migrate`: a topic's records copied into another one, each exactly once.

The copy is a client of the proxy in its own process (`net/own_client.py`): what it fetches is opened, and what it
produces is sealed, by the rules of the configuration. No port listens, so that nobody else on the host can use it.

It is made of transactions. Each holds records, and the source offsets that they reach up to, committed for a group of
the copy's own. Whatever goes wrong, from a broker that moved to SIGKILL, has one remedy: begin anew, which ends the
transaction that was open, and go on from the offsets that were committed. So nothing is lost, and nothing is there
twice for readers of committed records.
"""
