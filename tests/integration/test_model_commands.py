"""`sonant model …`: what is taken in, what is refused, and what stands in the data folder afterwards."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from made_networks import BOOL, INT64, calibration_text, graph, model, node, speaker_network, tensor, value
from sqlite_template import put_tables
from tampering import altered

from sonant.assembly import installation
from sonant.cli import main
from sonant.cli.model_check import examine
from sonant.cli.model_source import fetched
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles

NETWORK = speaker_network()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "data"
    put_tables(folder / "sonant.db")
    installation.open_store(Settings(data=folder), create=True).database.close()
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "made.onnx"
    path.write_bytes(NETWORK)
    return path


def run(data: Path, *arguments: str | Path) -> str:
    """The command's output; raises what the command raised."""
    result = CliRunner().invoke(
        main.main, ["model", *map(str, arguments), "--data", str(data)], catch_exceptions=False,
        standalone_mode=False,
    )  # fmt: skip
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def added(data, file) -> str:
    told = run(data, "add", file, "--kind", "wespeaker", "--id", "made", "--licence", "CC0")
    return told.split()[0]


def test_an_added_model_is_tried_timed_and_reported_to_need_a_calibration(data, added):
    assert re.fullmatch(r"made-[0-9a-f]{8}", added)
    manifest = ModelFiles(data).get(added)
    assert manifest.sha256 == hashlib.sha256(NETWORK).hexdigest()
    assert (manifest.dimensions, manifest.kind, manifest.licence) == (64, "wespeaker", "CC0")
    assert manifest.ms_a_second > 0
    assert manifest.shipped_ms_a_second > 0
    assert "calibrated  False" in re.sub(r" +", "  ", run(data, "info", added))


def test_the_same_bytes_fed_otherwise_are_another_model(data, file, added):
    other = run(data, "add", file, "--kind", "3dspeaker", "--id", "made").split()[0]
    assert other != added
    assert {added, other} <= set(ModelFiles(data).ids())
    run(data, "remove", other, "--yes")
    assert other not in ModelFiles(data).ids()


def test_a_model_is_not_added_twice(data, file, added):
    with pytest.raises(SetupError, match="exists already"):
        run(data, "add", file, "--kind", "wespeaker", "--id", "made")


def test_model_is_usable_with_its_own_calibration_only(data, added, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(calibration_text(added))
    bad.write_text(calibration_text("somebody-elses"))
    with pytest.raises(SetupError, match="of the voice model somebody-elses"):
        run(data, "calibration", added, bad)
    run(data, "calibration", added, good)
    assert re.search(rf"{added}\s+wespeaker\s+64\s+yes", run(data, "list"))


def test_a_network_whose_bytes_changed_on_the_disk_is_not_opened(data, added):
    files = ModelFiles(data)
    manifest = files.get(added)
    path = data / "models" / added / "model.onnx"
    path.write_bytes(altered(NETWORK))
    try:
        with pytest.raises(SetupError, match="must have"):
            files.read(manifest)
    finally:
        path.write_bytes(NETWORK)


def test_the_list_of_known_models_names_where_each_fact_comes_from(data):
    told = run(data, "list", "--known")
    assert "nemo-titanet-large" in told
    assert "d51abcf3" in run(data, "info", "nemo-titanet-large")
    with pytest.raises(SetupError, match="not known for certain"):
        run(data, "add", "redimnet-b2-vox2")


def test_a_wrong_kind_or_a_bad_name_is_refused_before_anything_is_read(data):
    with pytest.raises(SetupError, match="--kind is one of"):
        run(data, "add", "nowhere.onnx", "--kind", "mfcc")
    with pytest.raises(SetupError, match="say with --kind"):
        run(data, "add", "nowhere.onnx")
    with pytest.raises(SetupError, match="--id takes"):
        run(data, "add", "nowhere.onnx", "--kind", "nemo", "--id", "../../etc")
    with pytest.raises(SetupError, match="64 hexadecimal"):
        run(data, "add", "nowhere.onnx", "--kind", "nemo", "--sha256", "abc")


@pytest.mark.parametrize("model_id", ["", "../keys", "a/b", ".adding-x", "a" * 65])
def test_an_id_can_lead_to_no_other_folder(data, model_id):
    with pytest.raises(SetupError, match="not the id"):
        ModelFiles(data).find(model_id)


def test_a_model_whose_own_notes_name_another_toolkit_is_refused(tmp_path):
    path = tmp_path / "noted.onnx"
    path.write_bytes(speaker_network(notes={"framework": "nemo"}))
    with pytest.raises(SetupError, match="use --kind nemo"):
        examine(path, "wespeaker")


@pytest.mark.slow
def test_a_model_that_is_never_done_is_given_up(tmp_path):
    """A loop that turns for ever."""
    body = graph(
        [node("Identity", ["go"], "on"), node("Identity", ["carried"], "carry")],
        [],
        [value("turn", (), INT64), value("go", (), BOOL), value("carried", (1,))],
        [value("on", (), BOOL), value("carry", (1,))],
    )
    nodes = [
        node("Cast", ["number"], "yes", to=BOOL),
        node("Loop", ["", "yes", "zero"], "nothing", body=body),
        node("ReduceMean", ["feats"], "mean", axes=[1], keepdims=0),
        node("Add", ["mean", "nothing"], "embs"),
    ]
    tensors = [tensor("number", np.ones((), np.int64)), tensor("zero", np.zeros(1, np.float32))]
    content = model(graph(nodes, tensors, [value("feats", (1, "T", 80))], [value("embs", (1, 80))]))
    path = tmp_path / "loop.onnx"
    path.write_bytes(content)
    with pytest.raises(SetupError, match="could not be tried within 3 s"):
        examine(path, "wespeaker", time_limit_s=3.0)


def test_a_model_that_wants_all_memory_is_refused_and_the_caller_lives(tmp_path):
    nodes = [
        node("ConstantOfShape", ["huge"], "ones"),
        node("ReduceMean", ["ones"], "nothing", keepdims=0),
        node("ReduceMean", ["feats"], "mean", axes=[1], keepdims=0),
        node("Add", ["mean", "nothing"], "embs"),
    ]
    tensors = [tensor("huge", np.array([1 << 36], np.int64))]
    content = model(graph(nodes, tensors, [value("feats", (1, "T", 80))], [value("embs", (1, 80))]))
    path = tmp_path / "huge.onnx"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"memory|cannot be (run|tried)"):
        examine(path, "wespeaker")


# --- where models come from ---------------------------------------------------------------------------


class _Served(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/model":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(NETWORK)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


SHA256 = hashlib.sha256(NETWORK).hexdigest()


def read(source: str, sha256: str | None = SHA256) -> bytes:
    with fetched(source, sha256) as (path, _):
        return path.read_bytes()


def test_model_is_read_from_a_path_a_file_url_and_an_http_url(site, file):
    assert read(str(file), None) == NETWORK
    assert read(file.as_uri(), None) == NETWORK
    assert read(f"{site}/model") == NETWORK


@pytest.mark.parametrize(
    ("path", "sha256", "told"),
    [
        ("/model", None, "--sha256"),
        ("/model", "0" * 64, "must have 0000"),
        ("/away", SHA256, "not allowed"),
        ("/gone", SHA256, "cannot be read"),
    ],
)
def test_what_http_brings_is_refused_without_its_hash_or_from_elsewhere(site, path, sha256, told):
    with pytest.raises(SetupError, match=told):
        read(site + path, sha256)


@pytest.mark.parametrize("source", ["ftp://host/model", "data://x", "file://host/model", "/no/such/file"])
def test_other_addresses_are_refused(source):
    with pytest.raises(SetupError):
        read(source)


def test_a_model_beyond_the_largest_size_is_not_read_to_its_end(file, monkeypatch):
    monkeypatch.setattr("sonant.cli.model_source.MAX_MODEL_BYTES", 1000)
    with pytest.raises(SetupError, match="larger than 1000 bytes"):
        read(str(file))


def test_the_manifest_is_readable_by_people_and_refused_when_it_is_damaged(data, added):
    path = data / "models" / added / "manifest.json"
    text = path.read_text()
    assert json.loads(text)["model_id"] == added
    path.write_text(text.replace('"dimensions": 64', '"dimensions": "64"'))
    try:
        with pytest.raises(SetupError, match="damaged"):
            ModelFiles(data).find(added)
    finally:
        path.write_text(text)
