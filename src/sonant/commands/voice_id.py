"""`sonant voice-id …`: the AWS CLI's own driver, pointed at the local service.

One promise of the AWS help page that the AWS CLI breaks is kept here: `--generate-cli-skeleton output` checks
the command's input and prints sample output (the CLI's own made-up sample fails the model's length limits).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sonant.errors import SerializationFault, SetupError, Validation
from sonant.settings import Settings

#: What the user's own AWS set-up may say elsewhere, and must not say here.
_OTHER_IDENTITIES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run `aws voice-id` with endpoint, Region and credentials preset; returns its exit code."""
    _preset(settings)
    try:
        # Before anything imports botocore: awscli brings a copy of its own.
        import awscli.clidriver
    except ImportError:
        raise SetupError("the AWS CLI's driver is not installed: pip install 'sonant[cli]'") from None
    driver = awscli.clidriver.create_clidriver()
    driver.session.get_component("event_emitter").register_first(
        "calling-command.voice-id.*", _output_skeleton(driver.session)
    )
    return int(driver.main(["voice-id", *arguments]))


def _preset(settings: Settings) -> None:
    from sonant.commands.common import service_url

    environment = os.environ
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    environment.setdefault("AWS_PAGER", "")
    credentials = settings.data / "credentials"
    if not credentials.exists():
        if "AWS_ENDPOINT_URL_VOICE_ID" in environment:
            return  # a service elsewhere, with the user's own credentials
        raise SetupError(
            f"{credentials} does not exist; start `sonant serve --data {settings.data}` first, or set "
            "AWS_ENDPOINT_URL_VOICE_ID and AWS credentials for a service elsewhere"
        )
    for name in _OTHER_IDENTITIES:
        environment.pop(name, None)
    environment.setdefault("AWS_ENDPOINT_URL_VOICE_ID", service_url(settings))
    environment["AWS_SHARED_CREDENTIALS_FILE"] = str(credentials)
    environment["AWS_CONFIG_FILE"] = os.devnull
    environment["AWS_DEFAULT_REGION"] = settings.region


def _output_skeleton(session: Any) -> Any:
    from awscli.clidriver import CLIOperationCaller
    from botocore import xform_name

    class SampleCaller(CLIOperationCaller):  # type: ignore[misc]
        """Goes the way of a real call, but for the call: checks the input, answers with a sample."""

        def _make_client_call(
            self, client: Any, operation_name: str, parameters: dict[str, Any], _globals: Any
        ) -> dict[str, Any]:
            from sonant.wire.models import load_models
            from sonant.wire.samples import sample
            from sonant.wire.validation import compile_input

            # The client's own check first, so that its words are those of a real call.
            model = client.meta.service_model.operation_model(operation_name)
            client._serializer.serialize_to_request(parameters, model)
            operation = load_models().find(f"VoiceID.{operation_name}")
            try:
                compile_input(operation.input_shape)(parameters)
            except (Validation, SerializationFault) as fault:
                from botocore.exceptions import ParamValidationError

                raise ParamValidationError(report=str(fault)) from None
            if operation.output_shape is None:
                return {}
            answer: dict[str, Any] = sample(operation.output_shape)
            return answer

    def handler(
        event_name: str, call_parameters: dict[str, Any], parsed_args: Any, parsed_globals: Any, **_: Any
    ) -> int | None:
        if getattr(parsed_args, "generate_cli_skeleton", None) != "output":
            return None
        service = session.get_service_model("voice-id")
        names = {xform_name(name, "-"): name for name in service.operation_names}
        name = names[event_name.rpartition(".")[2]]
        return int(SampleCaller(session).invoke("voice-id", name, call_parameters, parsed_globals))

    return handler
