"""Functions that make keys, files and folders, each with the reason why it may do so when there is none.

A lost key or file must not be replaced silently. A function that is not listed here fails the test: decide
what happens when the key or file existed before, and list it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import sonant

ROOT = Path(sonant.__file__).parent
#: Names of calls that make something. `open` counts with a mode that writes, `os.open` with O_CREAT.
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

#: Made for one value or one process, and not stored alone.
TRANSIENT = {
    "web/login_cookies.py _is_secret": "compared with, when there is no such access key",
    "web/provider.py AuthorizationRequest.begin": "of one sign-in, in a sealed cookie",
    "jobs/workers/sealed_messages.py new_key": "of one runner and its actors, in memory",
    "jobs/workers/sealed_messages.py MessageCipher.seal": "a nonce",
    "storage/keys/stores/local.py LocalKeyStore._wrap": "a nonce",
    "storage/keys/stores/local.py LocalKeyStore.generate_data_key": "for the row or file made with it",
    "storage/keys/stores/pkcs11.py _decrypted": "a nonce",
    "storage/crypto/sealing.py seal": "a salt",
    "storage/crypto/sealing.py seal_value": "a nonce",
    "storage/keys/wrapping.py FileWrapping.seal": "a nonce",
    "storage/keys/wrapping.py wrap": "a salt",
    "storage/crypto/vault.py Vault._new_person": "a person's data key, for the row that is made with it",
    "storage/crypto/vault.py TemplateKeys.new": "the key of a space, for the row that is made with it",
    "storage/crypto/template_spaces.py temporary_spaces": "of one process, in memory",
    "backup/sealed_file.py write": "a salt",
}
#: Keys that cannot be replaced, and the check before they are made.
KEYS = {
    "assembly/installation/service_key.py _make": "only for a database that `key_checks` says is empty",
    "assembly/installation/service_key_rotation.py prepare": "the next service key, unless there is one",
    "assembly/installation/service_key_rotation.py rotate": "the same; the former one stays",
    "storage/keys/wrapping.py FileWrapping.begin": "the key of key files, only where none are encrypted",
    "storage/keys/material.py FileMaterial.make": "`sonant key create` and `first_start`, for a new key id",
    "storage/keys/stores/pkcs11.py TokenMaterial.make": "the same",
    "storage/keys/stores/pkcs11.py Token.make.work": "the same",
}
#: Secrets of callers, stored in the database.
SECRETS = {
    "cli/audit.py new_key": "for the file that the operator keeps, which must not be there",
    "storage/repositories/access.py create_access_key": "`access create` and `first_start` alone",
    "storage/repositories/access.py create_temporary": "given out once, for an hour or so",
}
#: Files and folders of an installation.
FILES = {
    "assembly/installation/folders.py make_folder": "after `_refuse_lost_database`",
    "assembly/installation/bootstrap.py _new_key": "credentials, only with the first user of the database",
    "assembly/installation/folders.py write_private": "what its callers give it",
    "assembly/installation/folders.py own_audit_folder": "one process's chain; see ChainFile",
    "assembly/installation/folders.py only_one": "a lock",
    "assembly/installation/service_key_rotation.py rotation_lock": "a lock",
    "audit/file.py ChainFile.__init__": "a trail may be moved away; doctor and log report it",
    "audit/file.py ChainFile._start_file": "the next file of the chain, never over another",
    "audit/findings.py FindingsTrail._write": "as ChainFile",
    "audit/key_files.py KeyFiles._locked": "a lock, in the folder of the trail's keys",
    "audit/key_files.py _make_private": "that folder; without its keys a new section of the trail begins",
    "audit/key_files.py _write_record": "the same",
    "audit/key_files.py new_kept_key": "a key that the operator keeps, never over another file",
    "audit/removal.py remove": "statements about removed files, which are a chain of their own",
    "retention/ledger.py DeletionLedger._append": "appends; a lost ledger shows at a restore, which warns",
    "events/sinks/file.py FileSink.deliver": "its content follows the cursors in the database",
    "events/sinks/file.py FileSink._append": "the same",
    "storage/private_folder.py PrivateFolder.locked": "before its first file; refused if it was seen",
    "storage/private_folder.py PrivateFolder.replace": "what its callers give it",
    "storage/objects/stores/local.py LocalObjectStore.make": "buckets are the user's own",
    "storage/objects/stores/local.py LocalObjectStore.create_bucket": "the same",
    "storage/objects/local_tree.py Walk._make": "folders of an object's key",
    "storage/objects/local_writing.py _open_temporary": "an object",
    "storage/model_files.py ModelFiles.add": "a model that a user adds",
    "storage/model_files.py _write": "the same",
    "storage/countermeasure_files.py CountermeasureFiles._write": "calibrations of a user's countermeasures",
    "backup/sealed_file.py write": "a backup, under another name until it is whole",
    "backup/restore.py restore": "an empty folder and an empty database only",
    "backup/restore.py _Writer.file": "in that folder, never over another",
    "cli/credentials.py add_profile": "adds to what is there",
    "jobs/workers/ray_certificate.py issue": "a node's certificate, made anew at each start of its container",
    "cli/init.py init": "a settings file, never over another",
    "cli/init.py _make": "the folder of the trail, after `first_start` has made the installation",
    "cli/serve.py _noted": "the address of this process",
    "cli/worker.py Heartbeat.__call__": "the heartbeat of this process",
    "cli/worker.py run_jobs.heartbeat": "the heartbeat of this process",
    "assembly/supervisor.py Supervisor._write_state": "the state of this process",
    "storage/files.py try_folder": "a trial, deleted at once",
}
#: Modules that write files which a user names, or fetch data for demonstrations and measurements.
OUTPUTS = {
    "cli/client.py", "demo/debian.py", "demo/run.py", "demo/attacks.py",
    "demo/fraud.py", "demo/live.py", "cli/speaker.py",
    "cli/speaker_deletions.py", "cli/speaker_calls.py", "cli/job.py",
    "cli/evaluate_fraudsters.py", "cli/evaluate_spoofing.py", "cli/evaluate_verification.py",
    "cli/evaluate_robustness.py", "cli/evaluate_second_voice.py", "cli/evaluate_parties.py",
    "cli/manifest.py", "cli/object.py",
    "demo/readers.py", "demo/recordings.py", "demo/speech.py", "demo/synthesizers.py",
    "cli/calibrate_model.py", "cli/calibrate.py", "cli/model_source.py",
}  # fmt: skip


def making_functions() -> set[str]:
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name not in OUTPUTS:
            found |= {f"{name} {qualified}" for qualified in _in(ast.parse(path.read_text("utf-8")), "")}
    return found


def _in(node: ast.AST, qualified: str) -> set[str]:
    found = set()
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inner = f"{qualified}.{child.name}".lstrip(".") if named else qualified  # type: ignore[attr-defined]
        found |= _in(child, inner)
        if (isinstance(child, ast.Call) and _makes(child)) or _names_creation(child):
            found.add(inner or "module")
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


def test_every_function_that_makes_something_is_listed_with_its_reason() -> None:
    known = TRANSIENT.keys() | KEYS.keys() | SECRETS.keys() | FILES.keys()
    found = making_functions()
    assert found - known == set(), "decide what happens when it existed before, and list it here"
    assert known - found == set(), "these make nothing any more"
