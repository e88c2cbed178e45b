"""A provider of OpenID Connect that users sign in with: authorization code flow with PKCE.

The libraries (Authlib, joserfc, httpx2) are the extra `oidc`; they are imported when a provider is set.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeGuard

import orjson

from sonant.errors import SetupError, SonantError
from sonant.settings import Console

EXTRA = "signing in with OpenID Connect needs: pip install 'sonant[oidc]'"
#: A provider that takes longer is not there.
TIME_LIMIT_S = 5.0
#: How long the provider's addresses and keys are kept. A key that is not among them is looked for at once,
#: but not more often than LEAST_BETWEEN_S.
KEPT_S, LEAST_BETWEEN_S = 3600.0, 30.0
#: The clocks of provider and service may differ by so much.
LEEWAY_S = 60
#: Signatures by a key pair: with a shared secret (HS256) whoever can check an ID token could write one.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
#: Threads that may ask the provider at the same time, and how long another one waits for its turn: a provider
#: that is slow must not hold all threads of the console.
MOST_AT_ONCE, TURN_S = 3, 1.0
MAX_ANSWER_BYTES = 1_000_000
MAX_GROUPS, MAX_NAME_CHARS = 1000, 64


class ProviderFault(SonantError):
    """The provider cannot be reached, or what it says of a user does not hold. The message is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderUser:
    """Whom the provider has authenticated."""

    subject: str
    """SHA-256 of issuer and subject, in 32 hexadecimal digits: always the same for a user."""
    name: str
    """To be shown; at most MAX_NAME_CHARS characters."""
    groups: tuple[str, ...]
    authenticated_at_s: float | None
    """Seconds since 1970; None where the provider does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """The secrets of one sign-in at the provider, which only this browser has."""

    state: str
    nonce: str
    verifier: str
    """The PKCE code verifier (RFC 7636)."""

    @classmethod
    def begin(cls) -> AuthorizationRequest:
        return cls(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
        )


def roles_by_group(text: str) -> dict[str, str]:
    """Read the setting `console.oidc_roles`: `group=role ARN`, separated by commas, in order.

    Raises SetupError for anything else.
    """
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        group, sep, arn = (one.strip() for one in part.partition("=arn:"))
        if not sep or not group or ":role/" not in arn:
            raise SetupError(
                f"console.oidc_roles: {part!r} is not group=arn:aws:iam::ACCOUNT:role/NAME; "
                "separate several by commas"
            )
        found.setdefault(group, f"arn:{arn}")
    return found


class OpenIdProvider:
    """Sends users to the provider and checks what they come back with. Its methods block."""

    def __init__(self, settings: Console, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Raises SetupError for settings that do not fit together, and without the extra `oidc`."""
        self._settings, self._monotonic_s = settings, monotonic_s
        self.roles = roles_by_group(settings.oidc_roles)
        if not settings.oidc_client_id or not self.roles:
            raise SetupError(
                "console.oidc_issuer is set, so set console.oidc_client_id and console.oidc_roles, too"
            )
        if not (find_spec("authlib") and find_spec("httpx2")):
            raise SetupError(EXTRA)
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] = {}
        self._keys: Any = None
        self._fetched_s = 0.0

    def authorization_url(self, asked: AuthorizationRequest, return_url: str, *, again: bool) -> str:
        """Return where the browser is sent; `again` has the user authenticate anew. Raises ProviderFault."""
        with self._turn():
            endpoint = self._endpoint("authorization_endpoint")
        more = {"prompt": "login", "max_age": "0"} if again else {}
        with self._client(return_url) as client:
            url, _ = client.create_authorization_url(
                endpoint, state=asked.state, nonce=asked.nonce, code_verifier=asked.verifier, **more
            )
        return str(url)

    def identify(
        self, asked: AuthorizationRequest, return_url: str, query: Mapping[str, str]
    ) -> ProviderUser:
        """Redeem the code of the address that the browser was sent back to.

        `query` has the parameters of that address, `asked` what they must answer. Raises ProviderFault.
        """
        if not secrets.compare_digest(query.get("state", "").encode(), asked.state.encode()):
            raise ProviderFault("the answer belongs to no sign-in of this browser")
        if error := query.get("error"):
            raise ProviderFault(f"the provider refused: {error[:100]!r}")
        # RFC 9207: an answer of another provider is not sent to this one.
        if query.get("iss", self._settings.oidc_issuer) != self._settings.oidc_issuer:
            raise ProviderFault("the answer is another provider's")
        with self._turn():
            tokens = self._redeem(asked, return_url, query.get("code", ""))
            claims = self._claims(tokens, asked.nonce)
        return self._user(claims)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=TURN_S):
            raise ProviderFault("the provider is slow, and other users wait for it")
        try:
            yield
        finally:
            self._turns.release()

    def _redeem(self, asked: AuthorizationRequest, return_url: str, code: str) -> Mapping[str, Any]:
        endpoint = self._endpoint("token_endpoint")
        with _faults(), self._client(return_url) as client:
            tokens: Mapping[str, Any] = client.fetch_token(
                endpoint, grant_type="authorization_code", code=code, code_verifier=asked.verifier
            )
        if not isinstance(tokens.get("id_token"), str):
            raise ProviderFault("the provider sent no ID token; the scopes must include openid")
        return tokens

    def _claims(self, tokens: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import InvalidKeyIdError, JoseError

        given = {
            "nonce": nonce,
            "client_id": self._settings.oidc_client_id,
            "access_token": tokens.get("access_token"),
        }
        wanted = {
            "iss": {"essential": True, "value": self._settings.oidc_issuer},
            "aud": {"essential": True, "value": self._settings.oidc_client_id},
        }
        try:
            try:
                token = self._decode(tokens["id_token"])
            except (InvalidKeyIdError, ValueError):
                self._read(anew=True)  # the provider may have a new key
                token = self._decode(tokens["id_token"])
            claims = CodeIDToken(token.claims, token.header, wanted, given)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as fault:
            raise ProviderFault(f"the ID token does not hold: {type(fault).__name__}: {fault}") from None
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise ProviderFault("the ID token is not of this sign-in")
        return dict(claims)

    def _decode(self, token: str) -> Any:
        from joserfc import jwt
        from joserfc.jws import JWSRegistry

        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        return jwt.decode(token, self._keys, registry=registry)

    def _user(self, claims: Mapping[str, Any]) -> ProviderUser:
        groups = claims.get(self._settings.oidc_groups, ())
        listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        subject = f"{self._settings.oidc_issuer}\0{claims['sub']}"
        named = next(
            (
                str(claims[one])
                for one in ("preferred_username", "email", "name")
                if isinstance(claims.get(one), str) and claims[one]
            ),
            str(claims["sub"]),
        )
        moment = claims.get("auth_time")
        return ProviderUser(
            subject=hashlib.sha256(subject.encode()).hexdigest()[:32],
            name=named[:MAX_NAME_CHARS],
            groups=tuple(one for one in listed[:MAX_GROUPS] if isinstance(one, str)),
            authenticated_at_s=float(moment) if isinstance(moment, int | float) else None,
        )

    # --- what the provider says of itself

    def _endpoint(self, name: str) -> str:
        self._read()
        found = self._metadata.get(name)
        if not may_be_asked(found, self._settings.oidc_issuer):
            raise ProviderFault(f"the provider names no {name} by https")
        return found

    def _read(self, *, anew: bool = False) -> None:
        """Read the provider's addresses and keys, unless they are known. Raises ProviderFault."""
        with self._lock:
            age_s = self._monotonic_s() - self._fetched_s
            if self._metadata and age_s < (LEAST_BETWEEN_S if anew else KEPT_S):
                return
            issuer = self._settings.oidc_issuer
            metadata = self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != issuer:
                named = str(metadata.get("issuer"))[:200]
                raise ProviderFault(f"the provider calls itself {named!r}, console.oidc_issuer is {issuer!r}")
            address = metadata.get("jwks_uri")
            if not may_be_asked(address, issuer):
                raise ProviderFault("the provider names no jwks_uri by https")
            self._keys = _key_set(self._get(address))
            self._metadata, self._fetched_s = metadata, self._monotonic_s()

    def _get(self, address: str) -> dict[str, Any]:
        import httpx2

        with (
            _faults(),
            httpx2.Client(timeout=TIME_LIMIT_S, follow_redirects=False) as client,
            client.stream("GET", address, headers={"accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise ProviderFault(f"the provider's answer is over {MAX_ANSWER_BYTES:,} bytes")
        return _json_object(body)

    def _client(self, return_url: str) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client

        secret = self._settings.oidc_client_secret
        return OAuth2Client(
            client_id=self._settings.oidc_client_id,
            client_secret=secret or None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=self._settings.oidc_scopes,
            redirect_uri=return_url,
            code_challenge_method="S256",
            timeout=TIME_LIMIT_S,
            follow_redirects=False,
        )


@contextmanager
def _faults() -> Iterator[None]:
    """Turn faults of the network and of the provider's answers into ProviderFault."""
    import httpx2
    from authlib.common.errors import AuthlibBaseError

    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, AuthlibBaseError, ValueError) as fault:
        raise ProviderFault(f"{type(fault).__name__}: {str(fault)[:200]}") from None


def may_be_asked(address: object, issuer: str) -> TypeGuard[str]:
    """Decide whether an address of a provider may be asked: by https, unless the provider is on loopback."""
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", issuer)
    return isinstance(address, str) and address.startswith(schemes)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise ProviderFault("the provider's answer is no JSON object")
    return found


def _key_set(document: dict[str, Any]) -> Any:
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        return KeySet.import_key_set(document)  # type: ignore[arg-type]
    except (JoseError, ValueError, KeyError, TypeError) as fault:
        raise ProviderFault(f"the provider's keys cannot be read: {fault}") from None
