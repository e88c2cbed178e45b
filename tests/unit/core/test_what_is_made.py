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
    "console/tickets.py Tickets.sign_in": "compared with, when there is no such access key",
    "jobs/engines/parcels.py new_key": "of one runner and its actors, in memory",
    "jobs/engines/parcels.py Parcels.seal": "a nonce",
    "store/local_keys.py LocalKeyStore._wrap": "a nonce",
    "store/local_keys.py LocalKeyStore.generate_data_key": "for the row or file made with it",
    "store/pkcs11_material.py _decrypted": "a nonce",
    "store/sealing.py seal": "a salt",
    "store/sealing.py seal_value": "a nonce",
    "store/vault.py Vault._new_person": "a person's data key, for the row that is made with it",
    "backup/sealed_file.py write": "a salt",
}
#: Keys that cannot be replaced, and what keeps them from being made beside what needs them.
KEYS = {
    "installation.py _make_service_key": "only for a database that `key_checks.in_use` says is empty",
    "store/key_material.py FileMaterial.make": "`sonant key create` and `first_start`, for a new key id",
    "store/pkcs11_material.py TokenMaterial.make": "the same",
    "store/pkcs11_material.py Token.make.work": "the same",
}
#: Secrets of callers, in the database.
SECRETS = {
    "store/access.py create_access_key": "`sonant access create`, and `first_start` for an empty database",
    "store/access.py create_temporary": "given out once, for an hour or so",
}
#: Files and folders of an installation.
PLACES = {
    "installation.py make_folder": "after `_refuse_lost_database`",
    "installation.py first_start": "the credentials, only with the first user of an empty database",
    "installation.py write_private": "what its callers give it",
    "installation.py own_audit_folder": "one process's chain; see ChainFile",
    "installation.py only_one": "a lock",
    "events/audit_file.py ChainFile.__init__": "a trail may be moved away; doctor and log tell",
    "events/audit_file.py ChainFile._begin": "the next file of the chain, never over another",
    "events/audit_findings.py FindingsTrail.add": "as ChainFile",
    "events/sinks/file.py FileSink.deliver": "what it tells follows the cursors in the database",
    "events/sinks/file.py FileSink._append": "the same",
    "store/private_folder.py PrivateFolder.locked": "before its first file; refused if it was seen",
    "store/private_folder.py PrivateFolder.replace": "what its callers give it",
    "store/local_objects.py LocalObjectStore.make": "buckets are the user's own",
    "store/local_objects.py LocalObjectStore.create_bucket": "the same",
    "store/local_tree.py Walk._make": "folders of an object's key",
    "store/local_writing.py _begin": "an object",
    "store/model_files.py ModelFiles.add": "a model that somebody adds",
    "store/model_files.py _write": "the same",
    "backup/sealed_file.py write": "a backup, under another name until it is whole",
    "backup/restoring.py restore": "an empty folder and an empty database only",
    "backup/restoring.py _Installation.file": "in that folder, never over another",
    "commands/access_keys.py add_profile": "adds to what is there",
    "commands/serve.py serve": "the address of this process",
    "commands/serve.py Heartbeat.__call__": "the heartbeat of this process",
    "commands/serve.py work.beat": "the heartbeat of this process",
    "commands/supervisor.py Supervisor._note": "the state of this process",
}
#: Where a person names a file to be written, and what is fetched for demonstrations and measurements.
OUTPUTS = {
    "commands/client_model.py", "commands/debian.py", "commands/demo.py", "commands/demo_attacks.py",
    "commands/demo_fraud.py", "commands/demo_live.py", "commands/duplicates.py",
    "commands/evaluate_fraudsters.py", "commands/evaluate_spoofing.py", "commands/evaluation.py",
    "commands/manifest.py", "commands/objects.py",
    "commands/readers.py", "commands/recordings.py", "commands/speech.py", "commands/synthesizers.py",
    "commands/calibrate_model.py", "commands/calibrate.py", "commands/model_source.py",
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
