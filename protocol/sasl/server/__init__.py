"""SASL, bytes in and values out: what a server makes of its clients' tokens."""
