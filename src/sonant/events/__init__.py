"""What happened: events for other systems, the audit trail, and measurements."""
