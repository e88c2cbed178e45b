"""`sonant` and `aws` commands, each in a process of its own, forked from one that has done the imports.

A command then costs a few hundredths of a second, so that the tests can afford hundreds. Run as a program,
this file is the parent process: it reads commands as lines of JSON and answers each with its exit code.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

#: Imported before the fork. The AWS CLI has a botocore of its own, so its commands have their own parent.
PLAIN = (
    "botocore.session",
    "sonant.cli.access",
    "sonant.cli.audit",
    "sonant.cli.backup",
    "sonant.cli.checks.database",
    "sonant.cli.checks.keys",
    "sonant.cli.checks.models",
    "sonant.cli.checks.people",
    "sonant.cli.checks.places",
    "sonant.cli.checks.running",
    "sonant.cli.checks.upkeep",
    "sonant.cli.doctor",
    "sonant.cli.domain",
    "sonant.cli.job",
    "sonant.cli.key",
    "sonant.cli.main",
    "sonant.cli.object",
    "sonant.cli.serve",
    "sonant.cli.session",
    "sonant.cli.speaker",
    "sonant.cli.watchlist",
)
AWS = ("awscli.clidriver", "awscli.handlers")
VOICE_ID = ("sonant.cli.main", "sonant.cli.voice_id", *AWS)

_DATA_PATH = "AWS_DATA_PATH"


class Parent:
    """A process from which commands are forked."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        )
        atexit.register(self.close)

    def run(self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
        """Run a command, its name and then its arguments: (exit code, standard output, standard error)."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            request = {"arguments": arguments, "env": env, "cwd": str(cwd), "out": str(out), "err": str(err)}
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
            code = json.loads(answers.readline())
            return code, out.read_text(), err.read_text()

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


@cache
def parent_of(command: str) -> Parent:
    """Give the parent of a program's commands, started once."""
    return Parent({"voice-id": VOICE_ID, "aws": AWS}.get(command, PLAIN))


def run_sonant(arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Run a `sonant` command: (exit code, standard output, standard error)."""
    parent = parent_of("voice-id" if "voice-id" in arguments else "")
    return parent.run(["sonant", *arguments], env, cwd)


def run_aws(arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Run the AWS CLI's own program, whose imports are done when it starts."""
    return parent_of("aws").run(["aws", *arguments], env, cwd)


# --- the parent's side --------------------------------------------------------------------------------


def _child(request: dict[str, Any], made: dict[str, str]) -> int:
    program: Callable[[], int | None]
    if request["arguments"][0] == "aws":
        from awscli.clidriver import main

        program = main
    else:
        from sonant.cli.main import run

        program = run

    given = request["env"]
    if _DATA_PATH in given and _DATA_PATH in made:
        # The AWS CLI appends its own folder to the caller's.
        made = {**made, _DATA_PATH: os.pathsep.join((given[_DATA_PATH], made[_DATA_PATH]))}
    os.environ.clear()
    os.environ.update(given | made)
    os.chdir(request["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = request["arguments"]
    try:
        return program() or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _serve() -> None:
    before = set(os.environ)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    # Variables that the imports set, as the AWS CLI does with the path of its data.
    made = {name: value for name, value in os.environ.items() if name not in before}
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_child(json.loads(line), made))
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    _serve()
