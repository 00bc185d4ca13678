"""What can be set about membership. The numbers live in `mesh.presets`; the shape and the trade-offs are here."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mesh.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimConfig:
    """Times are seconds. "SWIM" is Das, Gupta, Motivala 2002; "Lifeguard" is Dadgar, Phillips, Currey 2018."""

    probe_interval_seconds: float
    """One probe is begun every so often (SWIM's protocol period). Shorter finds crashes sooner and costs more, per node and
    whatever the size of the mesh: about 100 bytes per interval."""
    probe_timeout_min_seconds: float
    """Floor of the time that a ping may take, above what was measured: scheduling noise of a busy machine."""
    probe_timeout_max_seconds: float
    """Ceiling of the same, and what a peer gets about which nothing is known."""
    witnesses: int
    """SWIM's k: members asked at once to ping for us, in each round of indirect probes."""
    indirect_rounds: int
    """Rounds of indirect probes before a member is accused, each with other witnesses and one more direct ping. A second round
    takes a lossy link from one false accusation in 700 probes to one in 90,000 (10% loss, k = 3; computed)."""
    suspicion_min_seconds: float
    """Silence after an accusation before a burial, when enough members agree. Must be longer than a healthy process may stall."""
    suspicion_max_seconds: float
    """The same while only one member accuses (Lifeguard's LHA-Suspicion)."""
    suspicion_refused_seconds: float
    """The same when the suspect's machine told two members that nobody listens there: a stalled process says no such thing."""
    confirmations: int
    """Lifeguard's K: further accusers that bring the suspicion from its maximum down to its minimum."""
    checkers: int
    """Members that probe a fresh suspect at once instead of in their turn, so that confirmations do not wait for luck."""
    health_levels: int
    """Lifeguard's S, local health awareness: intervals and timeouts are stretched up to this many times."""
    push_fanout: int
    """Members to whom news is pushed at once, by everyone who hears it for the first time."""
    push_spacing_seconds: float
    """News that comes faster than this shares its datagrams."""
    push_all_max: int
    """Members to whom a subject sends its own refutation itself; the rest get it by gossip."""
    retransmit_factor: int
    """News is sent this many times log10(members + 1) by each member, pushes included (SWIM section 4.1, lambda)."""
    claim_bytes_per_datagram: int
    """Claims that may ride along with a ping or an ack, in bytes."""
    reconnect_interval_seconds: float
    """All members of one side of a cut together call out to the other side this often, for ever."""
    exchange_interval_seconds: float
    """How often member lists are compared although news keeps coming in, and the longest pause between attempts that brought
    nothing."""
    leave_confirmations: int
    """Members that must have heard of a graceful leave before the agent goes."""
    stall_seconds: float
    """A call that comes this much later than asked for means that this process stood still: its timers did too."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 or value != value:
                raise ConfigError(f"{field.name} must be above zero, not {value!r}")
        if self.suspicion_max_seconds < self.suspicion_min_seconds:
            raise ConfigError("suspicion_max_seconds must not be below suspicion_min_seconds")
        if self.probe_timeout_max_seconds < self.probe_timeout_min_seconds:
            raise ConfigError("probe_timeout_max_seconds must not be below probe_timeout_min_seconds")
