"""`kveil inspect`: what stands in a topic, envelope by envelope. `rows` needs no key, `opening` does."""
