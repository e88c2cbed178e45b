"""An OpenID Connect provider in the test's own process: its user is whom the test names."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "console", "secret-of-the-client"


@dataclass(slots=True)
class Provider:
    """What tests do with it."""

    issuer: str = ""
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}))
    algorithm: str = "RS256"
    asked: dict[str, str] = field(default_factory=dict)
    """The query of the last authorization request."""
    key_reads: int = 0
    published: Any = None
    """The key that is published; None for the one that signs."""
    _codes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def approve(self, address: str, *, issuer: str = "", **claims: Any) -> str:
        """Return the path and query that the browser is sent back to, for a user of these claims.

        A claim that is None is left out.
        """
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        now = int(datetime.now(UTC).timestamp())
        content = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "ada",
            "nonce": self.asked["nonce"],
            "iat": now,
            "exp": now + 300,
            **claims,
        }
        code = secrets.token_urlsafe(16)
        self._codes[code] = {
            "claims": {name: value for name, value in content.items() if value is not None},
            "challenge": self.asked["code_challenge"],
            "redirect": self.asked["redirect_uri"],
        }
        query = {"code": code, "state": self.asked["state"], **({"iss": issuer} if issuer else {})}
        return f"{urlsplit(self.asked['redirect_uri']).path}?{urlencode(query)}"

    def new_key(self, kind: str = "rsa", kid: str = "second") -> None:
        """Sign with another key from now on."""
        if kind == "rsa":
            self.key, self.algorithm = RSAKey.generate_key(2048, {"kid": kid}), "RS256"
        elif kind == "ec":
            self.key, self.algorithm = ECKey.generate_key("P-256", {"kid": kid}), "ES256"
        else:
            self.key, self.algorithm = OctKey.import_key(CLIENT_SECRET, {"kid": kid}), "HS256"

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def keys(self) -> dict[str, Any]:
        self.key_reads += 1
        key = self.published or self.key
        return {"keys": [] if isinstance(key, OctKey) else [key.as_dict(private=False)]}

    def redeem(self, authorization: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        known = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {known}":
            return 401, {"error": "invalid_client"}
        found = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if found is None or challenge != found["challenge"] or form.get("redirect_uri") != found["redirect"]:
            return 400, {"error": "invalid_grant"}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        token = jwt.encode(header, found["claims"], self.key, algorithms=[self.algorithm])
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": token}


@contextmanager
def openid_provider() -> Iterator[Provider]:
    """Serve a provider on loopback."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/.well-known/openid-configuration": provider.metadata, "/keys": provider.keys}
            answer = answers.get(self.path)
            self._answer(*((404, {}) if answer is None else (200, answer())))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(*provider.redeem(self.headers.get("authorization", ""), form))

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
