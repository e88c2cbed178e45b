"""A whole installation works with the new keys, and not without the root key."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from sonant.assembly.installation import first_start, open_store
from sonant.errors import SetupError
from sonant.settings import loading
from sonant.storage.backends import check_back_ends

CONTEXT = {"purpose": "check"}

with TemporaryDirectory() as folder:
    settings = loading.load(environment={"SONANT_KEYS": "credential", "SONANT_DATA": f"{folder}/data"})
    try:
        check_back_ends(settings)
    except SetupError as fault:
        assert "sonant-root-key" in str(fault)
    else:
        raise AssertionError("it starts without a root key")

    root_key = Path(folder) / "sonant-root-key"
    root_key.write_bytes(bytes(range(32)))
    os.environ["CREDENTIALS_DIRECTORY"] = folder
    store = open_store(settings, create=True)
    first_start(store)
    keys = store.backends.keys(settings.account)
    data_key = keys.generate_data_key("alias/sonant", CONTEXT)
    assert keys.decrypt(data_key.wrapped, CONTEXT) == data_key.plaintext
    store.database.close()

    root_key.unlink()
    try:
        open_store(settings)
    except SetupError:
        pass
    else:
        raise AssertionError("an installation opens without its root key")
