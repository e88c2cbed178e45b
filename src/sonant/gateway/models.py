"""The service models: botocore's `voice-id`, unchanged, and Sonant's own extension, shipped beside this file.

A model defines the operations, their input shapes and their errors. Both models use AWS JSON 1.0 and one
signing name, so one endpoint serves both.

`DATA_PATH` has the layout that AWS tools expect: with `AWS_DATA_PATH` set to it, `boto3.client("sonant")` and
`aws sonant` work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import botocore
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from sonant.errors import SetupError, UnknownOperation
from sonant.iam import OWN, VOICE_ID

Shape: TypeAlias = Any
"""A `botocore.model.Shape`; botocore carries no type hints."""

SIGNING_NAME = "voiceid"
"""The SigV4 service name of both models."""

OWN_PREFIX = "Sonant."
"""Prefix of the targets of Sonant's own operations."""

DATA_PATH = Path(__file__).parent / "data"
"""Folder of our own models; a value for `AWS_DATA_PATH`."""

LAST_KNOWN_BOTOCORE = "1.44.5"
"""A release with the `voice-id` model, to suggest when the installed one lacks it."""

_READ_VERBS = ("Describe", "List")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a service model."""

    name: str
    service: str
    """Prefix of the IAM action: `voiceid:CreateDomain`, and `sonant` for what Voice ID never had."""
    target: str
    """Value of the `X-Amz-Target` header, such as `VoiceID.CreateDomain`."""
    input_shape: Shape
    output_shape: Shape | None
    """None for operations whose response has an empty body."""
    errors: frozenset[str]
    """Names of the modelled exceptions, such as `ConflictException`."""
    readonly: bool
    """A Describe or List operation. (`EvaluateSession` counts as writing, as in IAM.)"""


def unmodelled(name: str) -> Operation:
    """Make an operation that no service model has, for policies and the audit trail; it counts as writing."""
    return Operation(
        name=name,
        service=OWN,
        target=f"{OWN_PREFIX}{name}",
        input_shape=None,
        output_shape=None,
        errors=frozenset(),
        readonly=False,
    )


@dataclass(frozen=True, slots=True)
class ServiceModels:
    """All operations of all models."""

    operations: Mapping[str, Operation]
    """By target."""

    def find(self, target: str | None) -> Operation:
        """Find the operation that an `X-Amz-Target` header names.

        Raises `UnknownOperation` for an absent header, another service's prefix or an unknown name.
        """
        operation = self.operations.get(target) if target else None
        if operation is None:
            raise UnknownOperation
        return operation


@cache
def load_models() -> ServiceModels:
    """Load both models; the same ones every time.

    Raises `SetupError` if the installed botocore no longer carries the `voice-id` model: AWS has retired the
    service, so a later release may drop it.
    """
    # Only botocore's own data: a copy under ~/.aws/models may differ, and a server must not depend on it.
    voice_id = _load(Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False), "voice-id")
    if voice_id is None:
        raise SetupError(
            f"botocore {botocore.__version__} does not carry the voice-id service model. Install a release "
            f"that does: pip install 'botocore=={LAST_KNOWN_BOTOCORE}'"
        )
    sonant = _load(Loader([str(DATA_PATH)], include_default_search_paths=False), "sonant")
    if sonant is None:
        raise SetupError(f"the service model is missing from {DATA_PATH}. Install Sonant again.")
    operations = [*_operations(voice_id, VOICE_ID), *_operations(sonant, OWN)]
    return ServiceModels({operation.target: operation for operation in operations})


def _load(loader: Loader, service: str) -> ServiceModel | None:
    try:
        return ServiceModel(loader.load_service_model(service, "service-2"), service)
    except BotoCoreError:  # UnknownServiceError or DataNotFoundError, by release
        return None


def _operations(model_of_service: ServiceModel, service: str) -> list[Operation]:
    prefix = model_of_service.metadata["targetPrefix"]
    found = []
    for name in model_of_service.operation_names:
        model = model_of_service.operation_model(name)
        found.append(
            Operation(
                name=name,
                service=service,
                target=f"{prefix}.{name}",
                input_shape=model.input_shape,
                output_shape=model.output_shape,
                errors=frozenset(shape.name for shape in model.error_shapes),
                readonly=name.startswith(_READ_VERBS),
            )
        )
    return found
