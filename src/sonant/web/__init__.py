"""Pages for people who are signed in: so far the one that an agent looks at during a call."""
