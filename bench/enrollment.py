"""Part `enrollment`: a batch job end to end, against its networks alone and against resemblyzer.

200 speakers with three recordings of 60 s each, through a real service: from StartSpeakerEnrollmentJob to
COMPLETED, so with starting the workers, reading, decoding, finding speech, embedding, sealing and storing.
"""

from __future__ import annotations

import os

from calls import DURATION_S, recordings
from floor import floor
from peer import peer_s
from report import Outcome, Ratio, Size
from service import BUCKET, Running, data_folder, serving
from sonant.demo.recordings import ManifestEntry, write_manifest

EACH = 3
FLOOR_TARGET, PEER_TARGET = 0.6, 4.0
LIMIT_S = 600.0


def measure(size: Size, peers: bool) -> Outcome:
    processes = os.cpu_count() or 1
    paths = recordings(size.pick(200, 40, 4), EACH)
    peer_paths = paths[: size.pick(40, 10, 2)]
    count = len(paths) * EACH
    with data_folder() as data:
        bucket = data / "buckets" / BUCKET
        entries = []
        for speaker, own in enumerate(paths):
            for path in own:
                os.link(path, bucket / path.name)
            audio = tuple((f"s3://{BUCKET}/{path.name}", 0) for path in own)
            name = f"speaker-{speaker}"
            entries.append(ManifestEntry(request_id=name, speaker_id=name, audio=audio))
        (bucket / "manifest.json").write_bytes(write_manifest(entries))
        with floor(paths, processes) as networks:
            # Before and after, so that a change in the machine's load meets both sides.
            before_s = networks.run()
            with serving(data) as service:
                job_s = _enrolled_s(service)
            after_s = networks.run()
    floor_s = (before_s + after_s) / 2
    ours = count / job_s
    heard = networks.heard_s / (count * DURATION_S)
    ratios = [
        Ratio(
            part="enrollment",
            name="end to end / the networks alone",
            ours=ours,
            theirs=count / floor_s,
            unit="recordings/s",
            target=FLOOR_TARGET,
            at_least=True,
            note=f"{len(paths)} speakers x {EACH} recordings, {processes} worker processes on both sides",
        )
    ]
    resemblyzer_s = peer_s(peer_paths, processes) if peers else None
    if resemblyzer_s is not None:
        theirs = len(peer_paths) * EACH / resemblyzer_s
        ratios.append(
            Ratio(
                part="enrollment",
                name="end to end / resemblyzer",
                ours=ours,
                theirs=theirs,
                unit="recordings/s",
                target=PEER_TARGET,
                at_least=True,
                note=f"Sonant stops at 30 s of net speech and so heard {100 * heard:.0f} % of the audio, "
                f"resemblyzer all of it ({len(peer_paths)} of the speakers); "
                f"per second of audio heard the ratio is {ours * heard / theirs:.1f}",
            )
        )
    return Outcome(
        ratios=ratios,
        details={
            "recordings": count,
            "job_s": job_s,
            "floor_s": [before_s, after_s],
            "peer_recordings": len(peer_paths) * EACH,
            "peer_s": resemblyzer_s,
            "recordings_opened": networks.recordings_heard,
            "share_of_audio_heard": heard,
        },
    )


def _enrolled_s(service: Running) -> float:
    domain_id = service.create_domain()
    job = service.finished(domain_id, service.start_job(domain_id, "manifest.json"), limit_s=LIMIT_S)
    if job.status != "COMPLETED":
        raise RuntimeError(f"the job ended {job.status}, must end COMPLETED")
    return job.duration_s
