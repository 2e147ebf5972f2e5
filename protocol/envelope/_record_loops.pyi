from kveil.protocol.envelope.record_loops import find_each as find_each
from kveil.protocol.envelope.record_loops import open_each as open_each
from kveil.protocol.envelope.record_loops import seal_each as seal_each
