"""Decode recordings in a process of its own, by libsndfile and, with the extra `media`, by FFmpeg."""
