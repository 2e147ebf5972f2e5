import importlib.util

import pytest

from kveil.protocol.envelope import record, record_loops, sealed_records

LOOPS = {"python": record_loops}
if importlib.util.find_spec("kveil.protocol.envelope._record_loops"):
    from kveil.protocol.envelope import _record_loops

    LOOPS["compiled"] = _record_loops


@pytest.fixture(scope="module", params=LOOPS)
def loops(request):
    """Record mode's loops in each form that is there, used by all that the test calls."""
    made = LOOPS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for module in (record, sealed_records):
            patch.setattr(module, "loops", made)
        yield made
