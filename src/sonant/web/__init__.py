"""The web console: pages for users who are signed in, and the page that an agent watches during a call."""
