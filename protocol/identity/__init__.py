"""Identities: what an authority, producers and keepers sign, and what a node believes of it (FORMAT.md)."""

from typing import Final

CONTROL_TOPIC: Final = "_kveil.control"
