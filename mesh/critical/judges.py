"""Judges: who says yes or no to what the rules do not decide. A model, a sensor, a person.

    async def foreman(question: mesh.Question) -> bool | str:
        ...                                          True: yes. False or a reason: no.

    NodeConfig(..., judges=[mesh.time_limit(foreman, 30)])

A voter asks its judges about entries of the dangerous class for which a rule wants one (effect "judge"): all at once, and all of
them have to say yes. A judge that fails, or takes too long, says no. Their verdicts are signed and final for that proposal; they
decide endorsements, never what is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import trio

from mesh.quorum.judging import Question

__all__ = ["Judge", "Question", "ask_all", "time_limit"]

log: Final = logging.getLogger("mesh.critical.judges")

Judge: TypeAlias = Callable[[Question], Awaitable[bool | str]]
"""True endorses; False, or a reason as text, refuses."""

JUDGE_SECONDS: Final = 30.0
"""For judges without a limit of their own. A leader gives a proposal up sooner (`Pace.verdict_seconds`) unless it is told that
people judge here."""
REASON_MAX: Final = 64
"""Characters of a reason that travels with the verdict."""


def time_limit(judge: Judge, seconds: float, *, reason: str = "no answer in time") -> Judge:
    """The same judge, whose silence is a no after so long: a person may be away."""

    async def limited(question: Question) -> bool | str:
        with trio.move_on_after(seconds):
            return await judge(question)
        return reason

    return limited


async def ask_all(judges: Sequence[Judge], question: Question) -> str:
    """Why they refuse; empty when all say yes. Never raises for what a judge does."""
    refusals: list[str] = []

    async def ask(judge: Judge) -> None:
        try:
            with trio.fail_after(JUDGE_SECONDS):
                answer = await judge(question)
        except trio.TooSlowError:
            answer = "no answer in time"
        except Exception:
            log.exception("a judge failed on %s %r: that is a no", question.verb, question.path)
            answer = "a judge failed"
        if answer is not True:
            refusals.append(answer[:REASON_MAX] if isinstance(answer, str) and answer else "no")
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for judge in judges:
            nursery.start_soon(ask, judge)
    return refusals[0] if refusals else ("" if judges else "no judge")
