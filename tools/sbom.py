"""Write the software bill of materials (SBOM) of a wheel or of the container image, in CycloneDX 1.6.

    python tools/sbom.py wheel dist/sonant-X-py3-none-any.whl [--extras cli,postgres]
    python tools/sbom.py image [--extras cli,postgres]          for linux, x86-64, Python of the Dockerfile

It lists the locked Python packages with the hashes of their files and what needs what (`locks/`), the
networks in the package with the package that their weights come from (`models.json`), and of the image
the base image by its digest. The Debian packages of the base image are listed by `docker buildx build
--sbom=true`, which needs the image. The same input gives the same bytes. It needs no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from locked import BASE, LOCKS, ROOT, LockedPackage, applies, merged, project, read_lock
from provenance import source_time

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
MODELS = ROOT / "src" / "sonant" / "voice" / "models"
DEFAULT_EXTRAS = ("cli", "postgres")
#: What the image is built for where markers ask; arm64 needs the same packages.
_IMAGE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}
_BASE_IMAGE = re.compile(r"^ARG PYTHON=((\d+\.\d+)\S*)@sha256:([0-9a-f]{64})$", re.MULTILINE)
#: Of serial numbers, which are made from the content.
_NAMESPACE = uuid.UUID("8f9bd1a4-0f5d-5c8e-9a56-2f1f0d3f7c11")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Write an SBOM in CycloneDX.")
    parser.add_argument("subject", choices=("wheel", "image"))
    parser.add_argument("file", type=Path, nargs="?", help="the wheel")
    parser.add_argument("--extras", default=",".join(DEFAULT_EXTRAS), help="extras that are installed")
    given = parser.parse_args(arguments)
    extras = [name for name in given.extras.split(",") if name]
    if given.subject == "image":
        sys.stdout.write(image_sbom(extras, source_time()))
    elif given.file is None:
        parser.error("name the wheel")
    else:
        sys.stdout.write(wheel_sbom(given.file, extras, source_time()))


def wheel_sbom(wheel: Path, extras: Sequence[str], made_at: datetime) -> str:
    """Build the SBOM of a wheel and of what it needs with these extras, on every platform."""
    subject = Component(
        name="sonant",
        version=_version_of(wheel),
        type=ComponentType.APPLICATION,
        bom_ref="sonant",
        purl=PackageURL("pypi", None, "sonant", _version_of(wheel), {"file_name": wheel.name}),
        licenses=[LicenseFactory().make_from_string(project()["project"]["license"])],
        hashes=[_sha256(hashlib.sha256(wheel.read_bytes()).hexdigest())],
    )
    return _written(subject, _locked(extras), [], made_at)


def image_sbom(extras: Sequence[str], made_at: datetime) -> str:
    """Build the SBOM of the image: the base image and what is installed in it for these extras."""
    name, python, digest = base_image(DOCKERFILE.read_text("utf-8"))
    environment = image_environment(python)
    base = Component(
        name="python",
        version=name,
        type=ComponentType.CONTAINER,
        bom_ref=f"python@sha256:{digest}",
        purl=PackageURL("oci", None, "python", f"sha256:{digest}", {"tag": name}),
        hashes=[_sha256(digest)],
    )
    subject = Component(
        name="sonant",
        version=_project_version(),
        type=ComponentType.CONTAINER,
        bom_ref="sonant",
        licenses=[LicenseFactory().make_from_string(project()["project"]["license"])],
    )
    packages = [one for one in _locked(extras) if applies(one, environment)]
    return _written(subject, packages, [base], made_at)


def image_environment(python: str) -> dict[str, str]:
    """Return what markers ask about in the image, with this version of Python."""
    return {**_IMAGE, "python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def base_image(dockerfile: str) -> tuple[str, str, str]:
    """Return tag, Python version and digest of the base image. Raises ValueError without a digest."""
    found = _BASE_IMAGE.search(dockerfile)
    if found is None:
        raise ValueError("the Dockerfile names no base image with a digest")
    return found[1], found[2], found[3]


def models() -> list[Component]:
    """Describe the networks that the package contains."""
    listed: list[dict[str, Any]] = json.loads((MODELS / "models.json").read_text("utf-8"))
    return [_model(one) for one in listed]


def _model(entry: dict[str, Any]) -> Component:
    source = entry.get("source", {})
    told = {
        f"sonant:source:{name}": str(source[name])
        for name in ("package", "version", "sha256")
        if name in source
    }
    return Component(
        name=entry["file"],
        version=entry["id"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{entry['id']}",
        description=entry["kind"],
        licenses=[LicenseFactory().make_from_string(entry["licence"])] if "licence" in entry else [],
        hashes=[_sha256(entry["sha256"])],
        properties=[Property(name=name, value=value) for name, value in told.items()],
    )


def _locked(extras: Sequence[str]) -> list[LockedPackage]:
    files = [LOCKS / f"{name}.txt" for name in (BASE, *extras)]
    return merged([read_lock(file.read_text("utf-8")) for file in files])


def _written(
    subject: Component, packages: Sequence[LockedPackage], others: Iterable[Component], made_at: datetime
) -> str:
    bom = Bom()
    bom.metadata.component = subject
    bom.metadata.timestamp = made_at
    components = {(one.name, one.version, one.marker): _component(one) for one in packages}
    networks, rest = models(), list(others)
    for component in (*components.values(), *networks, *rest):
        bom.components.add(component)
    needed: dict[str, list[Component]] = {"sonant": [*networks, *rest]}
    for package in packages:
        for name in package.required_by:
            needed.setdefault(name, []).append(components[package.name, package.version, package.marker])
    bom.register_dependency(subject, needed["sonant"])
    for package in packages:
        own = components[package.name, package.version, package.marker]
        bom.register_dependency(own, needed.get(package.name, []))
    bom.serial_number = uuid.uuid5(
        _NAMESPACE, repr((subject.name, subject.version, sorted(components), made_at))
    )
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return text + "\n"


def _component(package: LockedPackage) -> Component:
    """Describe a locked package; the hashes are those of all its files."""
    marker = [Property(name="sonant:marker", value=package.marker)] if package.marker else []
    told = [Property(name="sonant:file:sha256", value=value) for value in package.sha256]
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.name}@{package.version}" + (f";{package.marker}" if package.marker else ""),
        purl=PackageURL("pypi", None, package.name, package.version),
        licenses=_licences(package),
        properties=[*marker, *told],
    )


def _licences(package: LockedPackage) -> list[Any]:
    """Read the licence from the metadata of the package where this version is installed."""
    try:
        found = metadata.metadata(package.name)
    except metadata.PackageNotFoundError:
        return []
    if found["Version"] != package.version:
        return []
    if "License-Expression" in found:
        return [LicenseFactory().make_from_string(found["License-Expression"])]
    named = [
        one.rpartition(" :: ")[2] for one in found.get_all("Classifier") or () if one.startswith("License ::")
    ]
    return [LicenseFactory().make_with_name(name) for name in named if name != "OSI Approved"]


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)


def _version_of(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def _project_version() -> str:
    text = (ROOT / "src" / "sonant" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


if __name__ == "__main__":
    main()
