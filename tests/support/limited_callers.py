"""Callers with few rights, and recordings whose embedding a test chooses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from made_samples import made_sample
from operations_testbed import ACCOUNT, Operations
from strict_operations import judged

from sonant.events.outbox import Outbox
from sonant.iam import ALLOW_ALL, parse
from sonant.operations import OPERATIONS
from sonant.operations.service import Caller
from sonant.storage.repositories.access import Principal
from sonant.voice.models import shipped_encoder_id
from sonant.voice.sample import VoiceSample

NO_EXACT_SCORES = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "sonant:ReadExactScores", "Resource": "*"},
        ],
    }
)


def caller_named(name: str, *policies: str) -> Caller:
    """Make a caller with these policies."""
    principal = Principal(
        arn=f"arn:aws:iam::{ACCOUNT}:user/{name}",
        account_id=ACCOUNT,
        policies=tuple(parse(text) for text in policies),
        tags={},
    )
    return Caller(principal=principal, region="us-east-1")


#: An agent's program, which may do everything but read exact scores, another one, and the owner.
AGENT, OTHER = caller_named("agent", NO_EXACT_SCORES), caller_named("other", NO_EXACT_SCORES)
OWNER = caller_named("owner", ALLOW_ALL)


@dataclass
class ChosenVoice:
    """Analyzes every recording as the voice that the test chose."""

    sample: VoiceSample

    def analyse(self, *_recording: Any) -> VoiceSample:
        return self.sample


def call_as(testbed: Operations, caller: Caller, operation: str, **request: Any) -> dict[str, Any]:
    """Call an operation as this caller, after authorization."""
    return judged(operation, OPERATIONS[operation](testbed.service, caller, request))


def compare(
    testbed: Operations, caller: Caller, domain_id: str, voice: Any, *speakers: str
) -> list[dict[str, Any]]:
    """Compare a recording of this voice with speakers: the entries of CompareRecording's answer."""
    model_id = shipped_encoder_id()
    chosen = made_sample(voice, model_id=model_id, snr_db=25.0, highpass_300hz=False)
    testbed.service = replace(testbed.service, listener=ChosenVoice(chosen))
    answer = call_as(
        testbed,
        caller,
        "CompareRecording",
        DomainId=domain_id,
        DataAccessRoleArn=f"arn:aws:iam::{ACCOUNT}:role/sonant",
        AudioSpecification={"S3Uri": "s3://calls/a.wav", "ChannelId": 0},
        SpeakerIds=list(speakers),
    )
    found: list[dict[str, Any]] = answer["Comparisons"]
    return found


def send_events(testbed: Operations) -> None:
    """Switch events on."""
    testbed.service = replace(testbed.service, outbox=Outbox(enabled=True))
