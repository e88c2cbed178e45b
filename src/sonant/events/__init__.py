"""Events for other systems: their documents, the outbox, and delivery to sinks."""
