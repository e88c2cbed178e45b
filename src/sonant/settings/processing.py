"""Declare the settings of voices, live calls and jobs."""

from __future__ import annotations

from dataclasses import dataclass

from sonant.settings.declaration import DAY_S, GIB, MIB, choice, number, switch, text

_SECOND_VOICE = ("refuse", "warn", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """Which recordings are accepted."""

    strict: bool = switch(
        False, "Accept only what Voice ID accepted: WAV, 16-bit PCM, 8 kHz, one or two channels."
    )
    max_file_bytes: int = number(
        20 * MIB, 1024, GIB, "bytes", "Largest recording; a larger one is refused before it is opened."
    )
    max_duration_s: float = number(
        4 * 3600.0,
        1.0,
        DAY_S,
        "seconds",
        "Longest recording, whatever its size: guards against compressed bombs.",
    )
    comparison_silence_s: float = number(
        600.0,
        10.0,
        DAY_S,
        "seconds",
        "CompareRecording gives a recording up after this long without speech.",
    )
    comparison_search_s: float = number(
        3600.0, 10.0, DAY_S, "seconds", "So much of a recording CompareRecording searches for speech."
    )
    comparison_cpu_s: float = number(
        15.0,
        1.0,
        3600.0,
        "seconds",
        "Processor time that decoding a recording for CompareRecording may take.",
    )
    keep: bool = switch(
        True, "Keep an encrypted copy of the speech behind each voiceprint, so that it can be embedded again."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Limits of audio that is scored. Worse audio is refused at an enrollment, a registration and a
    comparison; in a live call it counts as not enough speech."""

    min_level_dbfs: float = number(
        -60.0, -100.0, 0.0, "decibels", "Lowest level of speech, below full scale; -100 accepts any."
    )
    min_snr_db: float = number(
        3.0, -10.0, 60.0, "decibels", "Lowest ratio of speech to noise; -10 accepts any."
    )
    min_band_hz: float = number(
        500.0,
        0.0,
        4000.0,
        "hertz",
        "Frequency that speech must reach; samples decoded by a wrong codec do not. 0 accepts any.",
    )
    max_clipping_share: float = number(
        0.1, 0.0, 1.0, "", "Largest share of speech samples at full scale; 1 accepts any."
    )
    max_repeat_share: float = number(
        0.8,
        0.0,
        1.0,
        "",
        "Largest share of a request's speech that repeats other speech of it; repeats never count as speech, "
        "whatever this says. 1 accepts any.",
    )
    check_speed: bool = switch(
        True,
        "Refuse speech that plays too slowly or too fast for a person, as under a header with the wrong "
        "sample rate.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """Requirements of speaker enrollment."""

    net_speech_s: float = number(
        30.0, 1.0, 300.0, "seconds", "Net speech that an enrollment needs, and the most that it uses."
    )
    risk_threshold: int = number(50, 0, 100, "", "RiskThreshold of jobs that set none.")
    second_voice: str = choice(
        "refuse",
        _SECOND_VOICE,
        "What a second person's speech in a request's recordings does: `refuse` fails the request where that "
        "is certain, and leaves that speech out where it is possible; `warn` always leaves it out and logs a "
        "warning; `ignore` does not look.",
    )
    speaker_selection: str = choice(
        "CHANNEL",
        ("CHANNEL", "RECURRING"),
        "SpeakerSelection of manifest requests that name none. `CHANNEL`: the channel has the customer "
        "alone. `RECURRING`: it has both parties, and the voice that recurs in a request's recordings is "
        "the customer's.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Requirements of fraudster registration."""

    net_speech_s: float = number(
        30.0, 1.0, 300.0, "seconds", "Net speech that a registration needs, and the most that it uses."
    )
    similarity_threshold: int = number(50, 0, 100, "", "FraudsterSimilarityThreshold of jobs that set none.")
    second_voice: str = choice(
        "refuse", _SECOND_VOICE, "The same for recordings of fraudsters: see `enrollment.second_voice`."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraud:
    """Cost limits of fraud detection."""

    spoofing_max_s: float = number(
        10.0,
        0.0,
        300.0,
        "seconds",
        "Speech of a recording that is checked for synthesis; 0 switches the check off.",
    )
    spoofing_windows: int = number(
        1,
        0,
        75,
        "windows",
        "Windows of 4 s for the large spoofing model when the small one is in doubt; 0 never runs it.",
    )
    replay_recordings: int = number(
        100_000,
        0,
        10_000_000,
        "recordings",
        "Newest recordings of a domain in the replay index, 4 kB each, while a job runs and from the first "
        "live call on; 0 switches replay detection off.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Live calls."""

    workers: int = number(
        0,
        0,
        1024,
        "processes",
        "Processes that embed the speech of calls, started with the first call; 0 means one per core. With "
        "two or more, one is always reserved for authentication.",
    )
    acceptance_threshold: int = number(90, 0, 100, "", "AcceptanceThreshold of sessions that set none.")
    risk_threshold: int = number(50, 0, 100, "", "RiskThreshold of sessions that set none.")
    authentication_speech_s: float = number(
        10.0, 5.0, 10.0, "seconds", "Net speech that authentication needs in sessions that set none."
    )
    fraud_speech_s: float = number(10.0, 1.0, 60.0, "seconds", "Net speech that fraud detection needs.")
    idle_s: float = number(
        60.0,
        1.0,
        DAY_S,
        "seconds",
        "A session for whose stream no connection brings audio is ended after this long, as is the upload of "
        "a recording in which nothing comes.",
    )
    silence_s: float = number(
        3600.0,
        1.0,
        DAY_S,
        "seconds",
        "A stream without audio for this long is ended although its connection lives: paused, muted, or on "
        "hold.",
    )
    again_s: float = number(
        0.0,
        0.0,
        DAY_S,
        "seconds",
        "How long after the last look the voice of a call is looked at again, from its decisions on: whether "
        "somebody else speaks, and whether there is a risk of fraud. 0 looks once.",
    )
    max_stream_s: float = number(4 * 3600.0, 1.0, DAY_S, "seconds", "Longest stream of a call.")
    max_streams: int = number(
        1000, 0, 100_000, "streams", "Connections that one process takes audio from at once."
    )
    max_streams_per_account: int = number(500, 0, 100_000, "streams", "Those connections of one account.")
    keep_h: float = number(
        24.0, 0.0, 8760.0, "hours", "How long a session is kept after its last stream has ended."
    )
    drain_s: float = number(
        0.0,
        0.0,
        DAY_S,
        "seconds",
        "How long open streams may go on after SIGTERM and after `gateway.drain_s`.",
    )
    keep_audio: bool = switch(
        False, "Keep the speech behind each result, encrypted, for as long as the session."
    )
    domain: str = text("", "Domain of calls that name none, such as those of AudioSocket.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What answers give away of a stored voice, and how often."""

    exact_within: int = number(
        0,
        0,
        100,
        "points",
        "EvaluateSession tells scores and risks of known fraudsters exactly when they are at most this far "
        "from their threshold, else in bands; 100 always tells them exactly. Those who may "
        "`sonant:ReadExactScores` always get exact ones.",
    )
    least_threshold: int = number(
        80,
        0,
        100,
        "",
        "Least AcceptanceThreshold that sessions may set without `sonant:ReadExactScores`: decisions at "
        "lower ones give a voice away within a dozen calls. `live.acceptance_threshold` may always be set.",
    )
    least_risk_threshold: int = number(
        50,
        0,
        100,
        "",
        "Least RiskThreshold that sessions and dry runs may set without `sonant:ReadExactScores`, likewise. "
        "`live.risk_threshold` and `enrollment.risk_threshold` may always be set.",
    )
    probes_per_speaker: int = number(
        30,
        0,
        1_000_000,
        "probes",
        "Different voices that one user or role may compare with a speaker within `scores.probes_days` and "
        "that do not match: that score less than `live.acceptance_threshold`, or are rejected. Further "
        "comparisons get ThrottlingException; 0 sets no limit.",
    )
    probes_per_fraudster: int = number(
        30,
        0,
        1_000_000,
        "probes",
        "Different voices for which one user or role, all jobs together, or all enrollments from calls "
        "together may be told a risk from 50 on of being one known fraudster, within `scores.probes_days`; "
        "ten times as many from 75 on, a tenth under 50. Then smaller risks of this fraudster count as 0. A "
        "risk of 100 is always told and counts nothing; 0 sets no limit.",
    )
    probes_per_account: int = number(
        60,
        0,
        1_000_000,
        "probes",
        "Like `scores.probes_per_speaker` and `scores.probes_per_fraudster`, for all users and roles of an "
        "account together; 0 sets no limit.",
    )
    probes_days: float = number(
        90.0,
        7.0,
        3650.0,
        "days",
        "How long a comparison counts in `scores.probes_per_speaker`, `scores.probes_per_fraudster` and "
        "`scores.probes_per_account`.",
    )
    lock_rejects: int = number(
        10,
        0,
        100_000,
        "rejections",
        "EvaluateSession locks a speaker that has so many rejections within `scores.lock_h`: comparisons get "
        "AccessDeniedException; 0 never locks.",
    )
    lock_h: float = number(24.0, 0.1, 168.0, "hours", "How long a rejection counts in `scores.lock_rejects`.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Batch jobs."""

    workers: int = number(0, 0, 1024, "processes", "Processes that decode and embed; 0 means one per core.")
    max_manifest_bytes: int = number(
        64 * MIB, 1024, 16 * GIB, "bytes", "Largest manifest; a larger one fails its job."
    )
    max_manifest_depth: int = number(
        16, 5, 256, "levels", "Deepest nesting of a manifest; a valid one has five levels."
    )
    time_limit_s: float = number(
        24 * 3600.0,
        1.0,
        30 * DAY_S,
        "seconds",
        "A job that runs longer ends FAILED and frees its domain for the next.",
    )
    entry_time_limit_s: float = number(
        120.0, 1.0, 3600.0, "seconds", "A request whose recordings take longer fails with 500."
    )
    poll_s: float = number(0.25, 0.01, 60.0, "seconds", "How often a runner looks for a new job.")
    turn_s: float = number(
        60.0,
        1.0,
        30 * DAY_S,
        "seconds",
        "How long a runner works on a job before a job of another domain or type that waits gets its turn.",
    )
    lease_s: float = number(
        20.0,
        1.0,
        3600.0,
        "seconds",
        "A runner without a heartbeat for this long counts as dead; another takes over its job.",
    )
    beside_service: bool = switch(
        True, "`sonant serve` starts and supervises a runner; false leaves jobs to `sonant worker`."
    )
