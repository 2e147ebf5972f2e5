"""The loops over records, compiled where that was built."""

try:
    from kveil.protocol.envelope import _record_loops as loops
except ImportError:
    from kveil.protocol.envelope import record_loops as loops  # type: ignore[no-redef]

__all__ = ["loops"]
