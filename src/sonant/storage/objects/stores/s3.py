"""The back end `objects = "s3"`: buckets of AWS, or of a server with the same protocol.

With AWS, jobs use the role's own credentials, which STS gives, and S3 decides what they may do. A server
without STS knows only the service's credentials. Then the policies of Sonant's role of that name decide,
before the server is asked.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sonant.errors import KeyDenied, ObjectDenied, ObjectError, SetupError
from sonant.iam import Policy, allows
from sonant.settings import Settings
from sonant.storage.accounts import LocalAccounts
from sonant.storage.aws_clients import ClientConfig, RoleCredentials, check_credentials, make_client
from sonant.storage.keys.store import KeyStore
from sonant.storage.objects.s3_errors import error_code
from sonant.storage.objects.s3_store import S3ObjectStore
from sonant.storage.objects.store import ObjectUri, RoleObjects
from sonant.storage.role_policies import PolicyCheckedReads

#: What STS takes as a session's name and as an external id.
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_SESSION_LEAST_S, _SESSION_MOST_S = 1800, 43_200


class S3BackEnd:
    """An `ObjectBackEnd` of S3. Safe for several threads."""

    def __init__(
        self, settings: Settings, accounts: LocalAccounts, keys: Callable[[str, str | None], KeyStore]
    ) -> None:
        """S3 seals objects itself: `accounts` and `keys` are not used."""
        self._settings = settings
        self._service_store: S3ObjectStore | None = None
        self._lock = threading.Lock()

    @staticmethod
    def check(settings: Settings) -> None:
        """Raise SetupError for settings that do not go together."""
        s3 = settings.s3
        if s3.assume_role and not _SESSION_LEAST_S <= s3.session_s <= _SESSION_MOST_S:
            raise SetupError(
                f"setting s3.session_s is {s3.session_s:g}, must be {_SESSION_LEAST_S} to {_SESSION_MOST_S}: "
                "credentials are fetched anew 15 minutes before they end, and AWS gives none for longer than "
                "12 hours"
            )
        check_credentials("s3", s3)

    @staticmethod
    def location(settings: Settings) -> Mapping[str, object]:
        """Return the settings that two hosts must share to reach the same objects."""
        names = ("endpoint", "region", "path_style", "assume_role", "sts_endpoint")
        return {f"s3.{name}": getattr(settings.s3, name) for name in names}

    def objects(self) -> S3ObjectStore:
        """Return the buckets, with the service's own rights."""
        with self._lock:
            if self._service_store is None:
                self._service_store = S3ObjectStore(
                    lambda: make_client("s3", _config(self._settings)), attempts=self._settings.s3.attempts
                )
            return self._service_store

    def objects_as(
        self, role_arn: str, policies: Sequence[Policy], *, domain_arn: str, account_id: str
    ) -> RoleObjects:
        """Return the buckets with the rights of a role; `policies` are ignored when STS gives credentials."""
        settings = self._settings
        if not settings.s3.assume_role:
            return PolicyCheckedS3(self.objects(), role_arn, policies, self._key_arn)
        sts = replace(_config(settings), endpoint=settings.s3.sts_endpoint, path_style=False)
        credentials = assume_role(
            lambda: make_client("sts", sts),
            role_arn,
            source_arn=domain_arn,
            source_account=account_id,
            session_s=settings.s3.session_s,
        )
        return S3ObjectStore(
            lambda: make_client("s3", _config(settings), credentials=credentials),
            attempts=settings.s3.attempts,
        )

    def clean_up(self) -> None:
        """Do nothing: an interrupted upload to S3 leaves no object."""

    def _key_arn(self, ref: str) -> str:
        """Return the ARN of the key that `ref` names."""
        if ref.startswith("arn:"):
            return ref
        settings = self._settings
        name = ref if ref.startswith("alias/") else f"key/{ref}"
        return f"arn:aws:kms:{settings.s3.region or settings.region}:{settings.account}:{name}"


def _config(settings: Settings) -> ClientConfig:
    s3 = settings.s3
    return ClientConfig(
        region=s3.region or settings.region,
        endpoint=s3.endpoint,
        ca_bundle=s3.ca_bundle,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        path_style=s3.path_style,
        attempts=s3.attempts,
        connect_timeout_s=s3.connect_timeout_s,
        read_timeout_s=s3.read_timeout_s,
    )


def assume_role(
    sts: Callable[[], Any], role_arn: str, *, source_arn: str, source_account: str, session_s: float
) -> Callable[[], RoleCredentials]:
    """Return a function that fetches credentials of a role from STS.

    The trust policy of a role may demand `aws:SourceArn` (the domain) and `aws:SourceAccount`, which AWS
    takes from the headers `x-amz-source-arn` and `x-amz-source-account`, or `sts:ExternalId`, which is the
    domain's ARN: a role given to one domain serves no other. Without a domain (`source_arn` empty) only the
    account is sent. A role of another account than the domain's is refused without a request: otherwise every
    account of a service could use the roles that trust it.

    The function raises ObjectDenied when the role may not be assumed, ObjectError when STS cannot be reached.
    """
    session_name = "sonant-" + source_arn.rpartition("/")[2]
    if not _SESSION_NAME.fullmatch(session_name):
        session_name = "sonant-" + hashlib.sha256(source_arn.encode()).hexdigest()[:32]
    sources = {"x-amz-source-arn": source_arn, "x-amz-source-account": source_account}
    headers = {name: value for name, value in sources.items() if value}
    external = {"ExternalId": source_arn} if source_arn else {}
    failed = f"the role {role_arn} cannot be assumed"

    def fetch() -> RoleCredentials:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if role_arn.split(":")[4:5] != [source_account]:
            raise ObjectDenied(f"{failed}: it is not one of the domain's account")
        client = sts()

        def add_headers(params: dict[str, Any], **_: Any) -> None:
            params["headers"].update(headers)

        client.meta.events.register("before-call.sts.AssumeRole", add_headers)
        try:
            response = client.assume_role(
                RoleArn=role_arn,
                RoleSessionName=session_name,
                DurationSeconds=int(session_s),
                **external,
            )
        except ClientError as fault:
            code = error_code(fault.response)
            status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            kind = ObjectDenied if 400 <= status < 500 and "Throttl" not in code else ObjectError
            raise kind(f"{failed}: STS answered {code or status}") from None
        except (BotoCoreError, ResponseParserError) as fault:
            raise ObjectError(f"{failed}: STS cannot be used ({type(fault).__name__})") from None
        finally:
            client.close()
        found = response["Credentials"]
        return RoleCredentials(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expires_at=found["Expiration"],
        )

    return fetch


class PolicyCheckedS3(PolicyCheckedReads):
    """A `RoleObjects` of the service's S3 that asks a role's policies first."""

    def __init__(
        self, store: S3ObjectStore, role_arn: str, policies: Sequence[Policy], key_arn: Callable[[str], str]
    ) -> None:
        """`key_arn` returns the ARN of the key that a name means."""
        super().__init__(store, role_arn, policies)
        self._s3, self._key_arn = store, key_arn

    def write(self, uri: ObjectUri, chunks: Iterable[bytes] | bytes, kms_key: str | None) -> None:
        self._require_output(uri, kms_key)
        self._s3.write(uri, chunks, kms_key)

    def check_writable(self, uri: ObjectUri, kms_key: str | None) -> None:
        self._require_output(uri, kms_key)
        self._s3.check_writable(uri, kms_key)

    def _require_output(self, uri: ObjectUri, kms_key: str | None) -> None:
        self._require("s3:PutObject", uri)
        if kms_key is not None and not allows(
            self._policies, "kms:GenerateDataKey", arn := self._key_arn(kms_key)
        ):
            raise KeyDenied(f"the role {self._role_arn} has no right kms:GenerateDataKey on {arn}")


BACK_END = S3BackEnd
