"""Voice models and domains as the commands name them."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from sonant.errors import SetupError
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import domains
from sonant.storage.repositories.domains import Domain
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.packaged import domain_model_id, packaged_entry

#: What commands call the model of new domains, beside its id.
SHIPPED = "shipped"


def known_models() -> list[dict[str, Any]]:
    """Read the package's list of models that are known to be good."""
    found: list[dict[str, Any]] = json.loads(
        resources.files("sonant.voice.models").joinpath("known.json").read_bytes()
    )
    return found


def find_known(name: str) -> dict[str, Any] | None:
    """Find a model of the list by its name."""
    return next((one for one in known_models() if one["name"] == name), None)


def stored_model_id(files: ModelFiles, model_id: str, encoder: str) -> str | None:
    """Give the id that a domain's record holds: None for GE2E. Raises SetupError for an unknown model.

    `encoder` is the setting, which `shipped` stands for.
    """
    if model_id == SHIPPED:
        return domain_model_id(encoder)
    if model_id == shipped_encoder_id():
        return None
    return model_id if packaged_entry(model_id) is not None else files.get(model_id).model_id


def active_domain(connection: Any, domain_id: str) -> Domain:
    """Read an active domain, locked if the transaction writes. Raises SetupError."""
    if connection.get_execution_options().get("sonant_write"):
        domains.lock(connection, domain_id)
    found = domains.find_by_id(connection, domain_id)
    if found is None or not found.active:
        raise SetupError(f"there is no active domain {domain_id[:64]!r}")
    return found
