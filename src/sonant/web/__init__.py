"""The web console: pages for users who are signed in, so far the one that an agent watches during a call."""
