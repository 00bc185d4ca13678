"""Named sets of numbers for the networks that agents live in: `local`, `lan`, `robot_wifi`, `wan`, `lora`.

Every number says where it comes from: a paper ("SWIM" 2002, "Lifeguard" 2018), a peer's default (memberlist, Serf), measured here
(virtual-time runs of tests/swim, see `python -m tests.swim.soak`), or guess. What a field does is written at the field.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from consensus_escalation.types import Pace
from mesh.errors import ConfigError
from mesh.housekeeping import Tidying
from mesh.swim.config import SwimConfig
from mesh.wire.limits import TransportLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """Dissemination (mesh.sync). Times are seconds."""

    direct_max: int = 64
    """Members up to which an author sends a fresh delta to all itself. Measured: 64 processes in 5.7 ms (p50, 2 cores)."""
    degree: int = 32
    """Children of a relay in a larger mesh: depth 2 reaches 1 + 32 + 1,024. Guess."""
    digest_min_seconds: float = 0.1
    """Pause between digests while out of step with anybody (DESIGN section 6)."""
    digest_quiet_seconds: float = 1.0
    """Pause after something changed here. Guess."""
    digest_max_seconds: float = 5.0
    """Pause when all is in sync (DESIGN section 6)."""
    repeat_min_seconds: float = 0.015
    """Floor of the round-trip time that spaces the repeats of a newest floor. Measured: a push to 32 processes on 2 cores takes
    10 to 20 ms, and repeats that begin before its end delay it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    name: str
    swim: SwimConfig
    sync: SyncConfig
    transport: TransportLimits
    quorum: Pace = field(default_factory=Pace)
    """Its defaults suit a LAN."""
    tidy: Tidying = field(default_factory=Tidying)
    """As above."""


LAN: Final = Preset(
    name="lan",
    swim=SwimConfig(
        probe_interval_seconds=0.3,  # measured: a sixth fewer wake-ups than 0.25; a crash is known to 64 as soon, 0.40 s
        probe_timeout_min_seconds=0.05,  # guess: scheduling noise of a busy board; a LAN's round trip is below 1 ms
        probe_timeout_max_seconds=0.5,  # memberlist LAN ProbeTimeout
        witnesses=3,  # memberlist IndirectChecks
        indirect_rounds=2,  # computed, see the field
        suspicion_min_seconds=1.05,  # no false death in 391 simulated stalls of 0.9 to 1 s, 10% loss; a probe adds 0.15 s
        suspicion_max_seconds=4.0,  # guess: about 4 x; memberlist has 6 x its minimum
        suspicion_refused_seconds=0.3,  # guess: one probe interval for the word of a living suspect to come round
        confirmations=3,  # Lifeguard, LHA-Suspicion: K = 3
        checkers=4,  # guess: one more than confirmations: one of them may be ill
        health_levels=8,  # Lifeguard, LHA-Probe: S = 8
        push_fanout=3,  # memberlist GossipNodes
        push_spacing_seconds=0.02,  # guess: ten times a LAN's round trip
        push_all_max=64,  # as SyncConfig.direct_max
        retransmit_factor=4,  # memberlist RetransmitMult
        claim_bytes_per_datagram=500,  # guess: three or four claims
        reconnect_interval_seconds=0.125,  # measured: a mended cut is healed after 0.1 s, 0.8 s at 10% loss (mean)
        exchange_interval_seconds=30.0,  # memberlist PushPullInterval
        leave_confirmations=3,  # guess, as witnesses
        stall_seconds=0.1,  # guess: a third of the probe interval
    ),
    sync=SyncConfig(),
    transport=TransportLimits(),  # made for a LAN, see there
)

LOCAL: Final = Preset(
    name="local",
    swim=replace(
        LAN.swim,
        suspicion_min_seconds=0.35,  # no false death in 848 simulated stalls of 0.3 to 0.4 s; a probe adds 0.15 s
        suspicion_max_seconds=1.4,  # as lan, 4 x
    ),
    sync=LAN.sync,
    transport=LAN.transport,
)
"""One machine, or a few on one switch, of which none stalls for longer than 0.4 s: as `lan`, but for patience with the silent."""

ROBOT_WIFI: Final = Preset(
    name="robot_wifi",
    swim=replace(
        LAN.swim,
        probe_interval_seconds=0.5,  # guess: airtime is shared by all
        probe_timeout_min_seconds=0.15,  # guess: power saving holds frames for a beacon interval of 102 ms
        probe_timeout_max_seconds=1.0,  # guess
        suspicion_min_seconds=2.5,  # guess: roaming between access points takes 1-2 s
        suspicion_max_seconds=10.0,  # as lan, 4 x
        suspicion_refused_seconds=0.6,  # as lan, about one probe interval
        push_spacing_seconds=0.05,  # guess
        reconnect_interval_seconds=0.25,  # guess: half of lan's airtime
        stall_seconds=0.2,  # guess
    ),
    sync=replace(LAN.sync, digest_min_seconds=0.2, digest_quiet_seconds=2.0, repeat_min_seconds=0.02),  # guess: twice lan
    transport=replace(
        LAN.transport,
        rate_bytes_per_s=1e6,  # guess: a fifth of what a crowded 2.4 GHz channel carries
        burst_bytes=64 * 1024.0,  # guess: half of lan
        handshake_retry_s=0.2,  # guess: above a beacon interval, as the probe timeout
    ),
    quorum=Pace(
        heartbeat_seconds=0.1,  # guess: airtime is shared by all; a voter costs 20 frames a second
        election_seconds=0.6,  # guess: Wi-Fi stalls for 200-300 ms when it roams or rescans
        slot_seconds=0.2,  # guess: PreVote and vote are two round trips of up to 40 ms
    ),
)

WAN: Final = Preset(
    name="wan",
    swim=replace(
        LAN.swim,
        probe_interval_seconds=1.0,  # guess; memberlist WAN has 5 s
        probe_timeout_min_seconds=0.1,  # guess: above the jitter of a long line
        probe_timeout_max_seconds=3.0,  # memberlist WAN ProbeTimeout
        suspicion_min_seconds=5.0,  # guess: routing changes take seconds
        suspicion_max_seconds=30.0,  # memberlist SuspicionMaxTimeoutMult, 6 x
        suspicion_refused_seconds=1.5,  # guess
        push_fanout=4,  # memberlist WAN GossipNodes
        push_spacing_seconds=0.1,  # guess: about a round trip
        reconnect_interval_seconds=0.5,  # guess
        exchange_interval_seconds=60.0,  # memberlist WAN PushPullInterval
        stall_seconds=0.3,  # guess
    ),
    sync=replace(
        LAN.sync,
        digest_min_seconds=0.5,  # guess: some round trips
        digest_quiet_seconds=2.0,  # guess
        digest_max_seconds=10.0,  # guess
        repeat_min_seconds=0.05,  # guess
    ),
    transport=replace(
        LAN.transport,
        rate_bytes_per_s=1e6,  # guess: 8 Mbit/s to one peer
        burst_bytes=64 * 1024.0,  # guess: half of lan
        handshake_retry_s=0.5,  # guess: above a long line's round trip
    ),
    quorum=Pace(
        heartbeat_seconds=0.2,  # as etcd's advice: about a round trip
        election_seconds=2.0,  # as etcd's advice: ten of them
        slot_seconds=0.7,  # guess: PreVote and vote are two round trips of up to 300 ms
        stable_seconds=10.0,  # guess
    ),
    tidy=Tidying(
        alone_seconds=20.0,  # as lan, two digests
        patience_seconds=60.0,  # as lan, six
        settled_seconds=120.0,  # as lan, twice that
    ),
)

LORA: Final = Preset(
    name="lora",
    # All guesses, from a frame of 200 bytes taking about 1 s on air at SF9 / 125 kHz and a duty cycle of 1%.
    swim=replace(
        LAN.swim,
        probe_interval_seconds=120.0,
        probe_timeout_min_seconds=5.0,
        probe_timeout_max_seconds=30.0,
        witnesses=1,
        indirect_rounds=1,
        suspicion_min_seconds=300.0,
        suspicion_max_seconds=1200.0,
        suspicion_refused_seconds=120.0,
        confirmations=1,
        checkers=1,
        push_fanout=1,
        push_spacing_seconds=10.0,
        push_all_max=4,
        retransmit_factor=2,
        claim_bytes_per_datagram=150,
        reconnect_interval_seconds=60.0,
        exchange_interval_seconds=1800.0,
        leave_confirmations=1,
        stall_seconds=5.0,
    ),
    sync=SyncConfig(
        direct_max=4,
        degree=3,
        digest_min_seconds=60.0,
        digest_quiet_seconds=120.0,
        digest_max_seconds=900.0,
        repeat_min_seconds=10.0,
    ),
    transport=replace(
        LAN.transport,
        rate_bytes_per_s=100.0,
        burst_bytes=2_400.0,
        lane_bytes_max=8 * 1024,
        lane_bytes_max_unopened=2 * 1024,
        handshake_retry_s=10.0,
    ),
    quorum=Pace(
        heartbeat_seconds=20.0,  # guess: a frame takes a second of a shared channel
        election_seconds=120.0,  # guess: five in a row must be lost
        slot_seconds=30.0,  # guess: two round trips of several seconds each
        stable_seconds=600.0,  # guess
        verdict_seconds=120.0,  # guess
        replace_seconds=6 * 3600.0,  # guess: nights without power are normal
        window_blocks=2,  # guess: 2 kB are minutes of airtime
    ),
    tidy=Tidying(
        alone_seconds=1800.0,  # as lan, two digests
        patience_seconds=5400.0,  # as lan, six
        settled_seconds=10_800.0,  # as lan, twice that
        retire_anyway_seconds=86_400.0,  # guess: nights without power are normal
    ),
)

PRESETS: Final[dict[str, Preset]] = {preset.name: preset for preset in (LOCAL, LAN, ROBOT_WIFI, WAN, LORA)}


def preset(name: str) -> Preset:
    """Raises ConfigError for a name that is none."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}") from None
