"""SIPREC: session border controllers bring copies of calls as recording sessions over SIP (RFC 7866), with
metadata of who takes part (RFC 7865), and RTP.

The customer's stream alone is listened to; all others are accepted and not read. SIP between trusted hosts
has no password, so only the addresses of `live.siprec_peers` are served.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from sonant.addresses import Network, is_loopback, parse_address, parse_networks
from sonant.carriers.servers import ServerCarrier
from sonant.carriers.siprec.server import SiprecConfig, SiprecServer
from sonant.errors import SetupError
from sonant.settings import Settings
from sonant.settings.declaration import number, text


@dataclass(frozen=True, slots=True, kw_only=True)
class SiprecSettings:
    """Settings of the session recording server."""

    siprec_port: int = number(
        0, 0, 65_535, "", "UDP and TCP port of the session recording server (SIPREC); 0 opens none."
    )
    siprec_host: str = text(
        "127.0.0.1", "IP address that SIP and RTP of SIPREC are received at; `0.0.0.0` for all of IPv4."
    )
    siprec_peers: str = text(
        "",
        "Addresses or networks of session border controllers, separated by commas, that may bring "
        "recordings; needed when `live.siprec_host` is not a loopback address.",
    )
    siprec_address: str = text(
        "",
        "IP address that SIPREC clients are told to send RTP to, as behind a load balancer; empty means "
        "`live.siprec_host`.",
    )
    siprec_rtp_first_port: int = number(20_000, 1024, 65_535, "", "First UDP port for RTP of SIPREC.")
    siprec_rtp_ports: int = number(
        1000, 2, 60_000, "", "Number of UDP ports for RTP of SIPREC; each recorded stream takes one."
    )
    siprec_agents: str = text(
        "",
        "Regular expression of the addresses of record that are not customers, such as "
        "`sip:[^@]*@agents\\.example\\.com`. The customer is the first participant whose address does not "
        "match; empty matches none.",
    )
    siprec_speaker: str = text(
        "",
        "What names the customer's speaker: `user` (the user part of the address of record without `+`), or "
        "the name of an element of the participant in the metadata; empty names none.",
    )
    siprec_session_header: str = text(
        "", "Header of the INVITE that names the session; empty takes the metadata's id of the call."
    )


SETTINGS = SiprecSettings


def carrier(settings: Settings) -> ServerCarrier | None:
    """Build the carrier, None without `live.siprec_port`. Raises SetupError."""
    own, domain_id = settings.of_carrier(SiprecSettings), settings.live.domain
    if not own.siprec_port:
        return None
    if not domain_id:
        raise SetupError("setting live.siprec_port needs live.domain: SIPREC names no domain")
    config = SiprecConfig(
        host=_host(own.siprec_host, "siprec_host"),
        port=own.siprec_port,
        peers=_peers(own),
        address=_host(own.siprec_address or own.siprec_host, "siprec_address"),
        rtp_ports=_ports(own),
        domain_id=domain_id,
        agents=_expression(own.siprec_agents),
        speaker=own.siprec_speaker,
        session_header=own.siprec_session_header,
    )
    if ip_address(config.address).is_unspecified:
        raise SetupError("setting live.siprec_address must be set: clients cannot send to all addresses")
    return ServerCarrier(make_server=lambda context: SiprecServer(config, context))


def _host(value: str, name: str) -> str:
    address = parse_address(value)
    if address is None:
        raise SetupError(f"setting live.{name} must be an IP address")
    return str(address)


def _peers(own: SiprecSettings) -> tuple[Network, ...]:
    try:
        peers = parse_networks(own.siprec_peers)
    except ValueError:
        raise SetupError("setting live.siprec_peers must be addresses or networks") from None
    if not peers and not is_loopback(own.siprec_host):
        raise SetupError("setting live.siprec_host needs live.siprec_peers: SIP has no password")
    return peers or parse_networks("127.0.0.0/8, ::1")


def _ports(own: SiprecSettings) -> range:
    ports = range(own.siprec_rtp_first_port, own.siprec_rtp_first_port + own.siprec_rtp_ports)
    if ports[-1] > 65_535:
        raise SetupError(
            "settings live.siprec_rtp_first_port and live.siprec_rtp_ports name ports above 65535"
        )
    return ports


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error:
        raise SetupError("setting live.siprec_agents is not a regular expression") from None
    return pattern
