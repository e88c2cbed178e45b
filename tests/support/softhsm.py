"""SoftHSM2, a PKCS#11 token in software, from Debian's packages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from waiting import PATIENCE_S

from sonant.demo import debian

PIN, OFFICER_PIN = "sonant-pin-73251946", "officer-pin-11223344"
#: What the packages need besides for files in /etc, which `SOFTHSM2_CONF` replaces.
_CONFIGURATION = {"debconf", "sensible-utils", "softhsm2-common", "ucf"}
_SYSTEM = Path("/usr/lib/softhsm/libsofthsm2.so")


class NoToken(Exception):
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """Tokens in a folder; `SOFTHSM2_CONF` of a process must be `conf`."""

    folder: Path
    module: Path
    program: Path

    @property
    def conf(self) -> Path:
        return self.folder / "softhsm2.conf"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    def make_token(self, label: str) -> None:
        subprocess.run(
            [self.program, "--module", self.module, "--init-token", "--free", "--label", label,
             "--pin", PIN, "--so-pin", OFFICER_PIN],
            env={**os.environ, "SOFTHSM2_CONF": str(self.conf)}, check=True, capture_output=True,
            timeout=PATIENCE_S,
        )  # fmt: skip


def softhsm(folder: Path, cache: Path) -> SoftHsm:
    """The system's, else fetched once into the cache. Raises NoToken, and SetupError when apt-get fails."""
    if importlib.util.find_spec("pkcs11") is None:
        raise NoToken("python-pkcs11 is not installed (extra pkcs11)")
    program, module = shutil.which("softhsm2-util"), _SYSTEM
    if program is None or not module.is_file():
        if shutil.which("apt-get") is None:
            raise NoToken("SoftHSM2 comes as Debian packages, and this machine has no apt-get")
        tree = _fetched(cache)
        program, module = str(tree / "usr/bin/softhsm2-util"), tree / "usr/lib/softhsm/libsofthsm2.so"
    made = SoftHsm(folder, module, Path(program))
    made.tokens.mkdir(parents=True)
    made.conf.write_text(
        f"directories.tokendir = {made.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return made


def _fetched(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / "softhsm"
    with debian.locked(cache / "softhsm.lock", print):
        if not tree.is_dir():
            with tempfile.TemporaryDirectory(prefix="softhsm-", dir=cache) as work:
                wanted = {"softhsm2", "libsofthsm2"}
                found = debian.download(Path(work), wanted, print, with_needed=True)
                if not wanted <= found.keys():
                    raise NoToken("this system's package sources have no SoftHSM2")
                # The module is loaded into Python, which would not look for its libraries here.
                needed = sorted(found.keys() - wanted - _CONFIGURATION)
                if needed:
                    raise NoToken(f"SoftHSM2 needs {', '.join(needed)}: apt install softhsm2")
                debian.unpack(found.values(), Path(work) / "tree")
                (Path(work) / "tree").rename(tree)
    return tree
