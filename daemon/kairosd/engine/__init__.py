"""The use cases: what Kairos does with events, models, tools and notices. No I/O of its own."""
