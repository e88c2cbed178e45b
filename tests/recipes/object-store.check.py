"""Objects are read from the new store, with a path-style request signed by the HMAC key."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from sonant.errors import SetupError
from sonant.settings import loading
from sonant.storage.backends import Backends, check_back_ends, local_accounts
from sonant.storage.objects.store import ObjectUri
from sonant.storage.times import now

requests = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        requests.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(b"speech")

    def log_message(self, *_: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()

with TemporaryDirectory() as folder:
    environment = {
        "SONANT_DATA": folder,
        "SONANT_OBJECTS": "gcs",
        "SONANT_S3_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
    }
    try:
        check_back_ends(loading.load(environment=environment))
    except SetupError as fault:
        assert "s3.access_key_id" in str(fault)
    else:
        raise AssertionError("it starts without an HMAC key")

    hmac_key = {"SONANT_S3_ACCESS_KEY_ID": "GOOG1EXAMPLE", "SONANT_S3_SECRET_ACCESS_KEY": "secret"}
    settings = loading.load(environment=environment | hmac_key)
    check_back_ends(settings)
    objects = Backends(settings, local_accounts(settings, now)).objects()
    assert objects.read(ObjectUri("calls", "2024/ada.wav"), 100) == b"speech"
    assert not list(Path(folder).glob("buckets/*"))

((path, authorization),) = requests
assert path.startswith("/calls/2024/ada.wav")
assert "GOOG1EXAMPLE" in authorization
server.shutdown()
