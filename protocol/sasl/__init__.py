"""SASL without I/O: `client` for the proxy's own login at the cluster, `server` for its clients' at a listener."""
