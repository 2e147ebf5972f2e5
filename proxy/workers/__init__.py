"""One Kveil in several processes: a parent that binds the ports and hands connections out, and workers that serve them.

    client ─▶ parent: accepts, allow-list, max_connections, whose turn it is
                │  the socket, over a Unix stream socket pair (`channel`)
                ├─▶ worker 1: TLS, logins, keys, relays ─▶ broker
                └─▶ worker 2: the same

The parent runs no event loop of asyncio, holds no key and reads no byte of a client. What all workers must know alike
is its to hold: topic ids and their names (`shared_state`), and brokers' addresses. Messages, by `kind`:

| from the parent | with | means |
|---|---|---|
| `take` | number, place, node_id, host, and the socket | serve this client |
| `admin` | the socket | answer whoever asks at the admin port |
| `answer` | number, and what was asked for | of `look`, `agree`, `give`, `names` or `given` |
| `broker` | node_id, host, port | a broker is there now |
| `drop` | topics | somebody changes these topics' settings |
| `reload`, `drain` | | as SIGHUP and SIGTERM say |

| from a worker | with | means |
|---|---|---|
| `ready` | realm | keys, certificates and users are loaded |
| `ended` | number | a client is gone |
| `report` | cpu_seconds, samples, status | once a second: its load and metrics since it started, what it tells people |
| `look` | number | what is known of all workers, for the admin port |
| `agree`, `give`, `names`, `given` | number, and what is asked | see `shared_state` |
| `broker`, `drop` | as above | tell all |
"""
