"""Backups: one sealed file that holds an installation, and a new installation made from it."""
