"""The new operation is in the service model, is authorized by its name, and answers."""

from pathlib import Path
from tempfile import TemporaryDirectory

from operations_testbed import operations_on

from sonant.gateway.models import load_models
from sonant.gateway.validation import compile_input

model = load_models().find("Sonant.DescribeSpeakerCount")
assert model.readonly
compile_input(model.input_shape)({"DomainId": "d" * 22})

with TemporaryDirectory() as folder:
    operations = operations_on(Path(folder))
    domain_id = operations.new_domain()
    operations.call("OptOutSpeaker", DomainId=domain_id, SpeakerId="ada-4711")
    answer = operations.call("DescribeSpeakerCount", DomainId=domain_id)
    operations.close()
assert answer == {"Count": 1, "Quota": 100_000}, answer
