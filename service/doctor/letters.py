"""Dead letters of the last day of which nothing has come yet, by reason, in words."""

from collections import Counter
from collections.abc import Iterable, Sequence

from service.doctor.case import Case
from service.doctor.finding import Look, ok, warn
from service.lanes.reasons import explained
from service.letters.desk import Desk
from service.letters.letter import Judged, Selection, State

DAY_SECONDS = 86400.0


async def check(case: Case) -> Iterable[Look]:
    """Older ones are yesterday's news, and would take the whole ledger to judge."""
    since = case.clock.now() - DAY_SECONDS
    desk = Desk(case.settings.kafka, case.topics, case.clock)
    return judge(await desk.judged(Selection(since=since), lambda *_: None))


def judge(letters: Sequence[Judged]) -> list[Look]:
    """What is open is a warning for each reason; what was queued again or published since is none."""
    waiting = Counter(one.letter.reason for one in letters if one.state is State.OPEN)
    if not waiting:
        settled = f"; of {len(letters):,} something has come since" if letters else ""
        return [ok(f"None of the last 24 hours is open{settled}.")]
    looks = []
    for reason, count in waiting.most_common():
        words = explained(reason)
        looks.append(warn(f"{count:,} of the last 24 hours: {reason}. {words.means}", words.todo))
    return looks
