"""Trust policies: which principals may assume a role."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sonant.errors import SetupError
from sonant.iam import parse_trust, trusts

ACCOUNT = "111122223333"
ANN = f"arn:aws:iam::{ACCOUNT}:user/ann"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/jobs/nightly"
SERVICE = "voiceid.amazonaws.com"


def trust(principal: Any, effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": "sts:AssumeRole", **elements}


def document(*statements: dict[str, Any]) -> Any:
    return parse_trust(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


@pytest.mark.parametrize(
    ("principal", "caller", "trusted"),
    [
        # a service, by its whole name
        ({"Service": SERVICE}, SERVICE, True),
        ({"Service": ["connect.amazonaws.com", SERVICE]}, SERVICE, True),
        ({"Service": "connect.amazonaws.com"}, SERVICE, False),
        ({"Service": SERVICE}, ANN, False),
        # a user or role, by its whole ARN
        ({"AWS": ANN}, ANN, True),
        ({"AWS": [ROLE, ANN]}, ANN, True),
        ({"AWS": ANN}, ANN + "a", False),
        ({"AWS": ANN}, ANN.upper(), False),
        ({"AWS": ANN}, SERVICE, False),
        # an account, by its number or its root: all in it
        ({"AWS": ACCOUNT}, ANN, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, ANN, True),
        ({"AWS": "999999999999"}, ANN, False),
        ({"AWS": ACCOUNT}, SERVICE, False),
        # a role: its sessions too, whose ARN has no path
        ({"AWS": ROLE}, ROLE, True),
        ({"AWS": ROLE}, f"arn:aws:sts::{ACCOUNT}:assumed-role/nightly/run-7", True),
        ({"AWS": ROLE}, f"arn:aws:sts::{ACCOUNT}:assumed-role/daily/nightly", False),
        ({"AWS": ROLE}, "arn:aws:sts::999999999999:assumed-role/nightly/run-7", False),
        # everyone
        ("*", ANN, True),
        ("*", SERVICE, True),
        ({"AWS": "*"}, ANN, True),
        ({"AWS": "*"}, SERVICE, False),
        # both kinds
        ({"AWS": ANN, "Service": SERVICE}, SERVICE, True),
        # a nameless caller is nobody
        ({"AWS": ACCOUNT}, "", False),
        ({"AWS": ACCOUNT}, "arn:", False),
    ],
)
def test_a_statement_applies_to_its_principals(principal: Any, caller: str, trusted: bool) -> None:
    assert trusts(document(trust(principal)), caller) is trusted


def test_a_deny_wins() -> None:
    both = document(trust({"AWS": ACCOUNT}), trust({"AWS": ANN}, "Deny"))
    assert not trusts(both, ANN)
    assert trusts(both, ROLE)


def test_conditions_apply() -> None:
    guarded = document(
        trust({"Service": SERVICE}, Condition={"StringEquals": {"aws:SourceAccount": ACCOUNT}})
    )
    assert trusts(guarded, SERVICE, {"aws:SourceAccount": ACCOUNT})
    assert not trusts(guarded, SERVICE, {"aws:SourceAccount": "999999999999"})
    assert not trusts(guarded, SERVICE)


def test_the_action_applies() -> None:
    one = document(trust({"AWS": ANN}) | {"Action": ["sts:AssumeRole", "sts:Tag*"]})
    assert trusts(one, ANN, action="sts:TagSession")
    assert not trusts(one, ANN, action="sts:SetSourceIdentity")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (trust({"AWS": ANN}) | {"Resource": "*"}, "Resource .a trust policy has none. is not supported"),
        (trust({"Federated": "accounts.example.com"}), "Federated is not supported"),
        (trust({}), "Principal must be"),
        (trust("ann"), "Principal must be"),
        ({"Effect": "Allow", "Action": "sts:AssumeRole"}, "Principal must be"),
        (trust({"AWS": []}), "list of strings"),
        # no part of a name may be a wildcard
        (trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/*"}), "whole ARN"),
        (trust({"AWS": "arn:aws:iam::*:root"}), "whole ARN"),
        (trust({"AWS": "ann"}), "whole ARN"),
        (trust({"Service": "*"}), "not a service"),
        (trust({"Service": "*.amazonaws.com"}), "not a service"),
        (trust({"AWS": ANN}) | {"Action": "*"}, "sts: actions only"),
        (trust({"AWS": ANN}) | {"Action": "s3:GetObject"}, "sts: actions only"),
        ({"Effect": "Allow", "Principal": "*"}, "Action must be a string"),
        (
            {"Effect": "Allow", "NotPrincipal": {"AWS": ANN}, "Action": "sts:AssumeRole"},
            "NotPrincipal is not supported",
        ),
        (trust("*", Condition={"StringMatches": {"aws:a": "b"}}), "not known"),
    ],
)
def test_an_invalid_trust_policy_is_refused(statement: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=f"policy statement 1: .*{message}"):
        document(statement)
