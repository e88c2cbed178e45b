"""S3 as one role may use it.

With AWS, the role's own credentials are fetched from STS and S3 judges. A server without STS knows only the
service's credentials; then the policies of a role of Sonant judge, before the server is asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sonant.errors import KeyDenied, ObjectDenied, ObjectError
from sonant.iam import Policy, allows
from sonant.storage.aws_clients import Temporary
from sonant.storage.grants import JudgedReads
from sonant.storage.objects.s3 import S3ObjectStore
from sonant.storage.objects.s3_faults import code_in
from sonant.storage.objects.store import ObjectUri

#: What STS takes as a session's name and as an external id.
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


def assumed(
    sts: Callable[[], Any], role_arn: str, *, source_arn: str, source_account: str, session_s: float
) -> Callable[[], Temporary]:
    """A function that fetches credentials of a role from STS.

    The trust policy of a role may demand `aws:SourceArn` (the domain) and `aws:SourceAccount`, which AWS
    takes from the headers `x-amz-source-arn` and `x-amz-source-account`, or `sts:ExternalId`, which is the
    domain's ARN: so a role given to one domain serves no other. Without a domain (`source_arn` empty) only
    the account is told. A role of another account than the domain's is never asked for: otherwise every
    account of a service could use the roles that trust it.

    What the function raises: ObjectDenied when the role may not be assumed, ObjectError when STS cannot be
    reached.
    """
    session_name = "sonant-" + source_arn.rpartition("/")[2]
    if not _SESSION_NAME.fullmatch(session_name):
        session_name = "sonant-" + hashlib.sha256(source_arn.encode()).hexdigest()[:32]
    told = {"x-amz-source-arn": source_arn, "x-amz-source-account": source_account}
    headers = {name: value for name, value in told.items() if value}
    external = {"ExternalId": source_arn} if source_arn else {}
    about = f"the role {role_arn} cannot be assumed"

    def fetch() -> Temporary:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if role_arn.split(":")[4:5] != [source_account]:
            raise ObjectDenied(f"{about}: it is not one of the domain's account")
        client = sts()

        def mark(params: dict[str, Any], **_: Any) -> None:
            params["headers"].update(headers)

        client.meta.events.register("before-call.sts.AssumeRole", mark)
        try:
            answer = client.assume_role(
                RoleArn=role_arn,
                RoleSessionName=session_name,
                DurationSeconds=int(session_s),
                **external,
            )
        except ClientError as fault:
            code = code_in(fault.response)
            status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            kind = ObjectDenied if 400 <= status < 500 and "Throttl" not in code else ObjectError
            raise kind(f"{about}: STS answered {code or status}") from None
        except (BotoCoreError, ResponseParserError) as fault:
            raise ObjectError(f"{about}: STS cannot be used ({type(fault).__name__})") from None
        finally:
            client.close()
        found = answer["Credentials"]
        return Temporary(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expires_at=found["Expiration"],
        )

    return fetch


class JudgedS3(JudgedReads):
    """The service's S3 as far as a role's policies go; see `RoleObjects`."""

    def __init__(
        self, store: S3ObjectStore, role_arn: str, policies: Sequence[Policy], key_arn: Callable[[str], str]
    ) -> None:
        """`key_arn` makes an ARN of whatever names a key."""
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
