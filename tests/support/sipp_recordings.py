"""Recording sessions that sipp makes, Debian's package sip-tester: each brings one stream of RTP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from recording_client import metadata, multipart

SIPP = shutil.which("sipp")
_HEAD = """SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
      From: <sip:sbc@[local_ip]>;tag=[call_number]
      To: <sip:srs@[remote_ip]>{to}
      Call-ID: [call_id]
      CSeq: {number} {method}
      Contact: <sip:sbc@[local_ip]:[local_port]>;+sip.src
      Max-Forwards: 70"""


def run_sipp(folder: Path, port: int, audio: bytes, *, calls: int, seconds: int) -> str:
    """Make so many recording sessions at once, each with this mu-law audio for its customer, and return what
    went wrong, empty for nothing. The sessions are named call-1 and so on."""
    (folder / "audio.ul").write_bytes(audio)
    (folder / "scenario.xml").write_text(_scenario(seconds), "utf-8")
    command = [
        str(SIPP), f"127.0.0.1:{port}", "-sf", "scenario.xml", "-i", "127.0.0.1", "-m", str(calls),
        "-l", str(calls), "-r", "5", "-trace_err", "-error_file", "errors.txt", "-nostdin",
        "-mp", "42000", "-timeout", f"{seconds + 60}s",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "TERM": "dumb"}, capture_output=True, check=False
    )
    errors = folder / "errors.txt"
    told = errors.read_text("utf-8", "replace") if errors.exists() else ""
    return told if done.returncode == 0 else f"{done.returncode}: {told}{done.stderr.decode()[-2000:]}"


def _request(method: str, number: int, *, to: str = "", rest: str = "      Content-Length: 0\n") -> str:
    head = _HEAD.format(to=to, number=number, method=method)
    return f"      {method} sip:srs@[remote_ip]:[remote_port] SIP/2.0\n      Via: {head}\n{rest}\n"


def _scenario(seconds: int) -> str:
    described = "\n".join(
        ["v=0", "o=sbc 1 1 IN IP4 [local_ip]", "s=-", "c=IN IP4 [media_ip]", "t=0 0"]
        + [
            line
            for label, media_port in enumerate(("[rtpstream_audio_port]", "[rtpstream_video_port]"), 1)
            for line in (f"m=audio {media_port} RTP/AVP 0", f"a=label:{label}", "a=sendonly")
        ]
    )
    xml = re.sub(r"^<\?xml.*\n", "", metadata("call-[call_number]"))
    kind, body = multipart(("application/sdp", described + "\n"), ("application/rs-metadata+xml", xml))
    rest = f"      Require: siprec\n      Content-Type: {kind}\n      Content-Length: [len]\n\n"
    invite = _request("INVITE", 1, rest=rest).rstrip("\n") + "\n\n" + body.decode().replace("\r\n", "\n")
    peer = "[peer_tag_param]"
    return f"""<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="recording session">
  <send retrans="500"><![CDATA[
{invite}  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="200" rtd="true"/>
  <send><![CDATA[
{_request("ACK", 1, to=peer)}  ]]></send>
  <nop><action><exec rtp_stream="audio.ul,1,0,PCMU/8000"/></action></nop>
  <pause milliseconds="{seconds * 1000}"/>
  <send retrans="500"><![CDATA[
{_request("BYE", 2, to=peer)}  ]]></send>
  <recv response="200"/>
</scenario>
"""
