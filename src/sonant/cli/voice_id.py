"""`sonant voice-id ...`: the AWS CLI's own driver, pointed at the local service.

It keeps one promise of the AWS help page that the AWS CLI breaks: `--generate-cli-skeleton output` checks the
command's input and prints sample output (the CLI's own sample fails the model's length limits).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import click

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.cli.credentials import ADMINISTRATOR, CREDENTIALS, chosen_profile, read_credentials
from sonant.cli.service_client import service_url
from sonant.errors import SerializationFault, SetupError, Validation
from sonant.settings import Settings

#: Variables of the user's own AWS set-up that must not apply to the local service.
_OTHER_IDENTITIES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


class VoiceIdCommand(Command):
    """A command whose help and `--output` are the AWS CLI's."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [parameter for parameter in self.params if "--output" not in parameter.opts]


@click.command(
    "voice-id",
    cls=VoiceIdCommand,
    context_settings={
        "ignore_unknown_options": True,
        "help_option_names": [],
        "allow_interspersed_args": False,
    },
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_cli
def voice_id(cli: CliContext, arguments: tuple[str, ...]) -> None:
    """Call the Voice ID API with the options of `aws voice-id`, against the local service.

    Output and exit codes are those of the AWS CLI.
    """
    sys.exit(run(cli.settings(), [*aws_flags(cli, arguments), *arguments]))


def aws_flags(cli: CliContext, arguments: Sequence[str]) -> list[str]:
    """Translate the common flags into the AWS CLI's, but for those that `arguments` have already."""
    given = {argument.partition("=")[0] for argument in arguments}
    flags = []
    if cli.output_given and "--output" not in given:
        flags += ["--output", cli.output]
    if not cli.color and "--color" not in given:
        flags += ["--color", "off"]
    return flags


def run(settings: Settings, arguments: Sequence[str]) -> int:
    """Run `aws voice-id` with endpoint, Region and credentials preset; returns its exit code."""
    reachable = _preset(settings)
    # The AWS CLI has log handlers of its own; with another above them its debug lines would reach users.
    logging.getLogger().handlers.clear()
    try:
        # Before anything imports botocore: awscli has a copy of its own.
        import awscli.clidriver
    except ImportError:
        raise SetupError("the AWS CLI's driver is not installed: pip install 'sonant[cli]'") from None
    driver = awscli.clidriver.create_clidriver()
    handler = _before_calls(driver.session, settings, reachable)
    driver.session.register("operation-args-parsed.voice-id.*", handler)
    # A help page has no exit code of its own.
    return int(driver.main(["voice-id", *arguments]) or 0)


def _preset(settings: Settings) -> bool:
    """Point the AWS CLI at the data folder's service; returns whether there is a service to call."""
    environment = os.environ
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    environment.setdefault("AWS_PAGER", "")
    if not any((settings.data / name).exists() for name in (CREDENTIALS, ADMINISTRATOR)):
        environment.setdefault("AWS_DEFAULT_REGION", settings.region)
        return "AWS_ENDPOINT_URL_VOICE_ID" in environment  # elsewhere, with the user's own credentials
    read_credentials(settings)  # or the AWS CLI ends in a traceback when the file is damaged
    for name in _OTHER_IDENTITIES:
        environment.pop(name, None)
    chosen = chosen_profile(settings)
    environment["AWS_PROFILE"] = chosen.name
    url = environment.setdefault("AWS_ENDPOINT_URL_VOICE_ID", service_url(settings))
    direct = [environment.get("no_proxy") or environment.get("NO_PROXY"), urlsplit(url).hostname]
    environment["no_proxy"] = ",".join(filter(None, direct))
    environment["AWS_SHARED_CREDENTIALS_FILE"] = str(chosen.file)
    environment["AWS_CONFIG_FILE"] = os.devnull
    environment["AWS_DEFAULT_REGION"] = settings.region
    return True


def _before_calls(session: Any, settings: Settings, reachable: bool) -> Callable[..., None]:
    """Make a handler that prints sample output or refuses a call, after `--cli-input-json` has been read.

    Help pages and skeletons need no service.
    """

    def parsed(parsed_args: Any, **_: Any) -> None:
        wants_output = parsed_args.generate_cli_skeleton == "output"
        if wants_output:
            parsed_args.generate_cli_skeleton = None  # or the AWS CLI answers first

        def before_call(
            event_name: str, call_parameters: dict[str, Any], parsed_globals: Any, **_: Any
        ) -> int | None:
            if wants_output:
                return _print_sample(session, event_name, call_parameters, parsed_globals)
            if parsed_args.generate_cli_skeleton is None and not reachable:
                raise SetupError(
                    f"{settings.data / 'credentials'} does not exist; start `sonant serve --data "
                    f"{settings.data}` first (for an installation in use `sonant access create --profile "
                    "default` makes another), or set AWS_ENDPOINT_URL_VOICE_ID and AWS credentials for a "
                    "service elsewhere"
                )
            return None

        session.get_component("event_emitter").register_last("calling-command.*", before_call)

    return parsed


def _print_sample(session: Any, event_name: str, call_parameters: dict[str, Any], parsed_globals: Any) -> int:
    """Check the command's input, then print a sample of its output; returns the exit code."""
    from awscli.clidriver import CLIOperationCaller
    from botocore import xform_name

    class SampleCaller(CLIOperationCaller):  # type: ignore[misc]
        """Checks the input as a real call does, and answers with a sample instead of the call."""

        def _make_client_call(
            self, client: Any, operation_name: str, parameters: dict[str, Any], _globals: Any
        ) -> dict[str, Any]:
            from sonant.gateway.models import load_models
            from sonant.gateway.samples import sample
            from sonant.gateway.validation import compile_input

            # The client's own check first, so that its messages are those of a real call.
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
            response: dict[str, Any] = sample(operation.output_shape)
            return response

    names = {xform_name(name, "-"): name for name in session.get_service_model("voice-id").operation_names}
    name = names[event_name.rpartition(".")[2]]
    return int(SampleCaller(session).invoke("voice-id", name, call_parameters, parsed_globals))
