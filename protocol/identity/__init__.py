"""Identities: what an authority, producers and keepers sign, and what a node believes of it (FORMAT.md)."""
