"""Checks of what is installed: service model, manifest reader, voice models, spoofing detectors."""

from __future__ import annotations

import numpy as np

from sonant.cli.checks import opened
from sonant.errors import SetupError
from sonant.settings import Settings

#: Most repair commands that one check prints.
_MOST_REPAIRS = 20


def check_service_model() -> str:
    """Count the operations of botocore's service model that are served."""
    import botocore

    from sonant.gateway.models import load_models
    from sonant.operations import OPERATIONS

    known = {operation.name for operation in load_models().operations.values()}
    return (
        f"botocore {botocore.__version__}, {len(known & set(OPERATIONS))} of {len(known)} operations served"
    )


def check_manifest_reader() -> str:
    """Name the JSON parser that reads manifests."""
    from sonant.jobs.manifest import parser_name

    return parser_name()


def check_voice_models() -> str:
    """Embed three seconds of noise. Raises SonantError when a model file is damaged."""
    from sonant.voice.models import load_models
    from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids

    models, found = load_models(), []
    for model_id in packaged_encoder_ids():
        embedder = packaged_embedder(model_id, models)
        assert embedder is not None
        embedding = embedder(np.random.default_rng(1).normal(0, 0.1, 8000 * 3).astype(np.float32))
        found.append(f"{embedding.model_id} ({len(embedding.vector)} dimensions)")
    return ", ".join([*found, models.detector_id])


def check_spoofing_models() -> str:
    """Load the spoofing detectors' networks. Raises SetupError when a model file is damaged."""
    from sonant.voice.spoofing.models import LIGHT, NETWORK, load_spoofing_models

    load_spoofing_models()
    return f"{LIGHT}, {NETWORK}"


def check_added_models(settings: Settings) -> str:
    """Check the files of added models. Raises SonantError for a damaged one."""
    from sonant.jobs.model_registry import calibrated, check_model
    from sonant.storage.model_files import ModelFiles

    files = ModelFiles(settings.data)
    found = files.ids()
    for model_id in found:
        check_model(files, model_id)
    uncalibrated = sum(not calibrated(files, model_id) for model_id in found)
    return f"{len(found)}" + (f", {uncalibrated} without calibration" if uncalibrated else "")


def check_countermeasures(settings: Settings) -> str:
    """Check the files and the calibration of added countermeasures. Raises SonantError for a damaged one."""
    from sonant.jobs.countermeasures import calibration_in_use, format_of
    from sonant.storage.countermeasure_files import CountermeasureFiles

    files = CountermeasureFiles(settings.data)
    found = files.models.ids()
    for model_id in found:
        manifest = files.models.get(model_id)
        format_of(manifest)
        files.models.read(manifest)
    own = calibration_in_use(files)
    used = set() if own is None else set(own.added)
    if missing := used - set(found):
        raise SetupError(
            f"the calibration in use needs {', '.join(sorted(missing))}, which is not there: add it again, "
            "or take the calibration back with `sonant calibrate spoofing --undo`"
        )
    idle = len(found) - len(used)
    return f"{len(found)}" + (f", {idle} not calibrated and not used" if idle else "")


def check_voiceprints(settings: Settings) -> str:
    """Raise SetupError when voiceprints are of another voice model than their domain's."""
    from sonant.storage.model_files import ModelFiles
    from sonant.storage.repositories import domains, shadow_voiceprints, templates
    from sonant.voice.models import shipped_encoder_id
    from sonant.voice.models.packaged import packaged_entry

    counts, repairs, files = [0, 0], [], ModelFiles(settings.data)
    with opened(settings) as store, store.database.read() as connection:
        active = [domain for domain in domains.list_all(connection) if domain.active]
        unprotected = len(templates.list_due(connection))
        for domain in active:
            if domain.model_id is not None and packaged_entry(domain.model_id) is None:
                files.get(domain.model_id)
            own = domain.model_id or shipped_encoder_id()
            stale = [
                shadow_voiceprints.count_other_model(connection, domain.domain_id, own, kind)
                for kind in shadow_voiceprints.BOTH
            ]
            if sum(stale):
                counts = [sum(pair) for pair in zip(counts, stale, strict=True)]
                repairs.append(f"`sonant model upgrade {domain.domain_id} {own}`")
    if repairs:
        more = f" (and {len(repairs) - _MOST_REPAIRS} more domains)" if len(repairs) > _MOST_REPAIRS else ""
        raise SetupError(
            f"{counts[0]} speakers and {counts[1]} fraudsters have voiceprints of another voice model than "
            "their domain's, which cannot be compared; where speech was kept they are brought over, and the "
            f"others named, by {', '.join(repairs[:_MOST_REPAIRS])}{more}"
        )
    waiting = f"; in {unprotected} they are still to be protected (`sonant key renew-templates`)"
    found = f"of the voice models of their domains, in {len(active)} domains"
    return found + (waiting if unprotected else "")
