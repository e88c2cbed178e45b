"""Files of npm packages that tests need, fetched once into the cache; each version is known by its hash."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "npm"
FETCH_S, FOLDER_S = 100, 600


def npm_file(package: str, version: str, sha256: str, member: str) -> str:
    """The text of one file of a package. Skips the test where npm is missing or cannot fetch it."""
    npm = shutil.which("npm")
    archive = CACHE / f"{package}-{version}.tgz"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes share the cache
        if not archive.exists():
            if npm is None:
                pytest.skip("no npm: apt install nodejs npm")
            command = [npm, "pack", "--silent", f"{package}@{version}", "--pack-destination", str(CACHE)]
            try:
                done = subprocess.run(command, capture_output=True, timeout=FETCH_S, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not fetch {package} in time")
            if done.returncode:
                pytest.skip(f"npm could not fetch {package}: {done.stderr.decode()[-300:]}")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert found == sha256, f"{archive} has another hash"
    with tarfile.open(archive) as packed:
        file = packed.extractfile(f"package/{member}")
        assert file is not None
        return file.read().decode()


def npm_folder(name: str, package_json: Path) -> Path:
    """A folder whose node_modules hold what a package.json names. Skips the test where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node.js with npm: apt install nodejs npm")
    wanted, folder = package_json.read_text(), CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed.json"
        if not done.exists() or done.read_text() != wanted:
            (folder / "package.json").write_text(wanted)
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            fetched = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=FOLDER_S, check=False
            )
            if fetched.returncode:
                pytest.skip(f"npm could not fetch what {package_json} names: {fetched.stderr[-300:]}")
            done.write_text(wanted)
    return folder
