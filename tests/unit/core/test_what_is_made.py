"""Every place of the code that makes a key, a file or a folder, and why it may do so when there is none.

What is lost must not be made anew in silence. A place that stands in no row fails the test: decide what
follows when the thing was there before, and say so.
"""

from __future__ import annotations

import ast
from pathlib import Path

import sonant

ROOT = Path(sonant.__file__).parent
#: Calls that make something. `open` counts with a mode that writes, `os.open` with O_CREAT.
MAKING = {
    "mkdir",
    "touch",
    "write_text",
    "write_bytes",
    "write_private",
    "token_bytes",
    "token_urlsafe",
    "generate_key",
}

#: Made for one value or one process, kept nowhere by itself.
PASSING = {
    "web/login_cookies.py LoginCookies.sign_in": "compared with, when there is no such access key",
    "jobs/workers/parcels.py new_key": "of one runner and its actors, in memory",
    "jobs/workers/parcels.py Parcels.seal": "a nonce",
    "storage/keys/local.py LocalKeyStore._wrap": "a nonce",
    "storage/keys/local.py LocalKeyStore.generate_data_key": "for the row or file made with it",
    "storage/keys/pkcs11.py _decrypted": "a nonce",
    "storage/crypto/sealing.py seal": "a salt",
    "storage/crypto/sealing.py seal_value": "a nonce",
    "storage/crypto/vault.py Vault._new_person": "a person's data key, for the row that is made with it",
    "backup/sealed_file.py write": "a salt",
}
#: Keys that cannot be replaced, and what keeps them from being made beside what needs them.
KEYS = {
    "assembly/installation.py _make_service_key": "only for a database that `key_checks` says is empty",
    "storage/keys/material.py FileMaterial.make": "`sonant key create` and `first_start`, for a new key id",
    "storage/keys/pkcs11.py TokenMaterial.make": "the same",
    "storage/keys/pkcs11.py Token.make.work": "the same",
}
#: Secrets of callers, in the database.
SECRETS = {
    "storage/repositories/access.py create_access_key": "`access create` and `first_start` alone",
    "storage/repositories/access.py create_temporary": "given out once, for an hour or so",
}
#: Files and folders of an installation.
PLACES = {
    "assembly/installation.py make_folder": "after `_refuse_lost_database`",
    "assembly/installation.py first_start": "the credentials, only with the first user of an empty database",
    "assembly/installation.py write_private": "what its callers give it",
    "assembly/installation.py own_audit_folder": "one process's chain; see ChainFile",
    "assembly/installation.py only_one": "a lock",
    "audit/file.py ChainFile.__init__": "a trail may be moved away; doctor and log tell",
    "audit/file.py ChainFile._begin": "the next file of the chain, never over another",
    "audit/findings.py FindingsTrail.add": "as ChainFile",
    "events/sinks/file.py FileSink.deliver": "what it tells follows the cursors in the database",
    "events/sinks/file.py FileSink._append": "the same",
    "storage/private_folder.py PrivateFolder.locked": "before its first file; refused if it was seen",
    "storage/private_folder.py PrivateFolder.replace": "what its callers give it",
    "storage/objects/local.py LocalObjectStore.make": "buckets are the user's own",
    "storage/objects/local.py LocalObjectStore.create_bucket": "the same",
    "storage/objects/local_tree.py Walk._make": "folders of an object's key",
    "storage/objects/local_writing.py _begin": "an object",
    "storage/model_files.py ModelFiles.add": "a model that somebody adds",
    "storage/model_files.py _write": "the same",
    "backup/sealed_file.py write": "a backup, under another name until it is whole",
    "backup/restoring.py restore": "an empty folder and an empty database only",
    "backup/restoring.py _Installation.file": "in that folder, never over another",
    "cli/access_keys.py add_profile": "adds to what is there",
    "cli/serve.py serve": "the address of this process",
    "cli/serve.py Heartbeat.__call__": "the heartbeat of this process",
    "cli/serve.py work.beat": "the heartbeat of this process",
    "assembly/supervisor.py Supervisor._note": "the state of this process",
}
#: Where a person names a file to be written, and what is fetched for demonstrations and measurements.
OUTPUTS = {
    "cli/client_model.py", "demo/debian.py", "demo/run.py", "demo/attacks.py",
    "demo/fraud.py", "demo/live.py", "cli/duplicates.py",
    "cli/evaluate_fraudsters.py", "cli/evaluate_spoofing.py", "cli/evaluation.py",
    "cli/manifest.py", "cli/objects.py",
    "demo/readers.py", "demo/recordings.py", "demo/speech.py", "demo/synthesizers.py",
    "cli/calibrate_model.py", "cli/calibrate.py", "cli/model_source.py",
}  # fmt: skip


def making_places() -> set[str]:
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in OUTPUTS:
            found |= {f"{name} {where}" for where in _in(ast.parse(path.read_text("utf-8")), "")}
    return found


def _in(node: ast.AST, where: str) -> set[str]:
    found = set()
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        below = f"{where}.{child.name}".lstrip(".") if named else where  # type: ignore[attr-defined]
        found |= _in(child, below)
        if (isinstance(child, ast.Call) and _makes(child)) or _names_creation(child):
            found.add(below or "module")
    return found


def _makes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        modes = [one.value for one in call.args[:2] if isinstance(one, ast.Constant)]
        modes += [
            one.value.value
            for one in call.keywords
            if one.arg == "mode" and isinstance(one.value, ast.Constant)
        ]
        return any(isinstance(mode, str) and len(mode) <= 3 and set(mode) & set("awx") for mode in modes)
    return name in MAKING


def _names_creation(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "O_CREAT"


def test_whatever_makes_something_is_known_with_its_reason() -> None:
    known = PASSING.keys() | KEYS.keys() | SECRETS.keys() | PLACES.keys()
    found = making_places()
    assert found - known == set(), "decide what follows when it was there before, and say so here"
    assert known - found == set(), "these make nothing any more"
