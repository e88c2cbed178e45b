"""Carriers by provider: each module is one, found by its name.

It defines `carrier(settings)`, which builds the carrier, and, if it has settings, `SETTINGS`: a dataclass of
declarations whose names begin with the module's and belong to the group `live`.
"""
