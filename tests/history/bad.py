"""For each rule the smallest history that breaks it, and one beside it that only looks as if it did."""

from __future__ import annotations

from history.stories import Story

BAD: dict[str, Story] = {
    "lost": Story().enqueue(0, "a").final(9, queued=[]),
    "unexpected": Story().claim(1, "w1", "r1", "a"),
    "finished twice": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a", lease=1)
    .claim(3, "w2", "r2", "a", number=2)
    .finish(4, "w1", "r1", "a")
    .finish(5, "w2", "r2", "a"),
    "redelivered": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .finish(2, "w1", "r1", "a")
    .claim(3, "w2", "r2", "a", number=2),
    "double lease": Story().enqueue(0, "a").claim(1, "w1", "r1", "a").claim(2, "w2", "r2", "a", number=2),
    "stale accepted": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a", lease=1)
    .claim(3, "w2", "r2", "a", number=2)
    .settle(4, "w1", "renew", "r1", "a"),
    "wrongly refused": Story().enqueue(0, "a").claim(1, "w1", "r1", "a").finish(2, "w1", "r1", "a", answer="lost"),
    "delivery number": Story().enqueue(0, "a").claim(1, "w1", "r1", "a", lease=1).claim(3, "w2", "r2", "a", number=1),
    "replay": Story().enqueue(0, "a", "b").claim(1, "w1", "r1", "a").claim(2, "w1", "r1", "b"),
    "duplicate": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .handle(1, "w1", "r1", "a", 2)
    .handle(3, "w1", "r1", "a", 4)
    .finish(5, "w1", "r1", "a"),
    "order": Story().enqueue(0, "a").enqueue(1, "b").claim(2, "w1", "r1", "b").claim(3, "w2", "r2", "a"),
    "released order": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .settle(2, "w1", "release", "r1", "a")
    .enqueue(2.5, "b")
    .claim(3, "w2", "r2", "b")
    .claim(4, "w3", "r3", "a", number=2),
    "group order": Story()
    .enqueue(0, "a", group="g")
    .enqueue(1, "b", group="g")
    .claim(2, "w1", "r1", "a")
    .claim(3, "w2", "r2", "b")
    .finish(4, "w1", "r1", "a"),
    "group overlap": Story()
    .enqueue(0, "a", group="g", later=True)
    .enqueue(0, "b", group="g", later=True)
    .claim(1, "w1", "r1", "a")
    .claim(1, "w2", "r2", "b")
    .handle(2, "w1", "r1", "a", 4)
    .handle(3, "w2", "r2", "b", 5),
    "counters": Story().enqueue(0, "a").counts(9, queued=2, enqueued=1),
}

ALSO_BAD: dict[str, tuple[str, Story]] = {
    "lost after a release": (
        "lost",
        Story().enqueue(0, "a").claim(1, "w1", "r1", "a").settle(2, "w1", "release", "r1", "a").final(9, queued=[]),
    ),
    "lost though its cancelling was refused": (
        "lost",
        Story()
        .enqueue(0, "a")
        .call(1, "operator", "cancel", 0, {"phase": "ok", "ids": []}, ids=["a"])
        .final(9, queued=[]),
    ),
    "delivered before it was enqueued": ("unexpected", Story().claim(0, "w1", "r1", "a").enqueue(1, "a")),
    "a finish after somebody's claim": (
        "stale accepted",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a", lease=1)
        .claim(3, "w2", "r2", "a", number=2)
        .finish(4, "w1", "r1", "a"),
    ),
    "a finish after one's own release and somebody's claim": (
        "stale accepted",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a")
        .settle(2, "w1", "release", "r1", "a")
        .claim(3, "w2", "r2", "a", number=2)
        .finish(4, "w1", "r1", "a"),
    ),
    "two leases, one of them renewed": (
        "double lease",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a", lease=2)
        .settle(2, "w1", "renew", "r1", "a")
        .claim(8, "w2", "r2", "a", number=2),
    ),
    "two leases, one of them proven by its finish": (
        "double lease",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a", lease=2)
        .claim(4, "w2", "r2", "a", number=2)
        .finish(6, "w1", "r1", "a"),
    ),
    "a renewed lease whose renewal is refused": (
        "wrongly refused",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a", lease=2)
        .settle(2, "w1", "renew", "r1", "a")
        .settle(8, "w1", "renew", "r1", "a", answer="lost"),
    ),
    "a claim asked for again that lacks an item": (
        "replay",
        Story().enqueue(0, "a", "b").claim(1, "w1", "r1", "a", "b").claim(2, "w1", "r1", "a"),
    ),
    "one receipt in two processes": (
        "replay",
        Story().enqueue(0, "a").claim(1, "w1", "r1", "a", lease=1).claim(5, "w2", "r1", "a"),
    ),
    "handled elsewhere while the lease held": (
        "duplicate",
        Story()
        .enqueue(0, "a")
        .claim(1, "w1", "r1", "a")
        .handle(1, "w1", "r1", "a", 9)
        .claim(2, "w2", "r2", "a", number=2)
        .handle(3, "w2", "r2", "a", 4),
    ),
    "order within one call": (
        "order",
        Story().enqueue(0, "a", "b").claim(2, "w1", "r1", "b").claim(3, "w2", "r2", "a"),
    ),
    "order within one claim": ("order", Story().enqueue(0, "a").enqueue(1, "b").claim(2, "w1", "r1", "b", "a")),
    "order within one call and one claim": ("order", Story().enqueue(0, "a", "b").claim(2, "w1", "r1", "b", "a")),
    "one of a group that was begun while an earlier one waits to be retried": (
        "group order",
        Story()
        .enqueue(0, "a", "b", group="g")
        .claim(1, "w1", "r1", "a")
        .settle(2, "w1", "fail", "r1", "a")
        .claim(3, "w2", "r2", "b")
        .finish(4, "w2", "r2", "b")
        .claim(5, "w1", "r3", "a", number=2)
        .finish(6, "w1", "r3", "a"),
    ),
    "one of a group that was begun while an earlier one is left in the queue": (
        "group order",
        Story().enqueue(0, "a", "b", group="g").claim(1, "w1", "r1", "b").final(9, queued=["a"], in_progress=["b"]),
    ),
    "more finished than the history has": (
        "counters",
        Story().enqueue(0, "a").counts(9, finished=1, enqueued=1),
    ),
    "more enqueued than the history has": ("counters", Story().counts(9, queued=1, enqueued=1)),
}

GOOD: dict[str, Story] = {
    "nothing": Story(),
    "an enqueue without an answer that is nowhere": Story().enqueue(0, "a", phase="info").final(9, queued=[]),
    "an enqueue of a process that died, delivered": Story().enqueue(0, "a", phase="").claim(1, "w1", "r1", "a"),
    "a claim as soon as the release was sent, before its answer": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .settle(2, "w1", "release", "r1", "a", took=3)
    .claim(3, "w2", "r2", "a", number=2),
    "a lease that ended": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a", lease=1)
    .claim(2.1, "w2", "r2", "a", number=2)
    .finish(3, "w1", "r1", "a", answer="lost"),
    "a finish that was repeated": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .finish(2, "w1", "r1", "a", answer="info")
    .finish(3, "w1", "r1", "a"),
    "a finish that is late, before anybody else's claim": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a", lease=1)
    .finish(5, "w1", "r1", "a"),
    "a finish after a release of the same worker": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .settle(2, "w1", "release", "r1", "a")
    .finish(3, "w1", "r1", "a", answer="lost"),
    "calls that overlap": Story()
    .enqueue(0, "a", took=2)
    .enqueue(1, "b", took=2)
    .claim(4, "w1", "r1", "b")
    .claim(5, "w2", "r2", "a"),
    "claims that overlap": Story()
    .enqueue(0, "a")
    .enqueue(1, "b")
    .claim(2, "w1", "r1", "b", took=1)
    .claim(2, "w2", "r2", "a", took=2),
    "an item that is due later": Story()
    .enqueue(0, "a", later=True)
    .enqueue(1, "b")
    .claim(2, "w1", "r1", "b")
    .claim(3, "w1", "r2", "a"),
    "an item whose first claim died with its process": Story()
    .enqueue(0, "a")
    .enqueue(1, "b")
    .claim(2, "w1", "r1", "b")
    .claim(3, "w1", "r2", "a", number=2),
    "an item that was cancelled": Story()
    .enqueue(0, "a")
    .call(1, "operator", "cancel", 0, {"phase": "ok", "ids": ["a"]}, ids=["a"])
    .final(9, queued=[]),
    "a handler that was killed": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a", lease=1)
    .handle(1, "w1", "r1", "a")
    .signal(1.5, "killed", "w1")
    .claim(3, "w2", "r2", "a", number=2)
    .handle(3, "w2", "r2", "a", 4)
    .finish(5, "w2", "r2", "a"),
    "a handler that was tried again": Story()
    .enqueue(0, "a")
    .claim(1, "w1", "r1", "a")
    .handle(1, "w1", "r1", "a", 2)
    .settle(2, "w1", "fail", "r1", "a")
    .claim(3, "w1", "r2", "a", number=2)
    .handle(3, "w1", "r2", "a", 4),
    "a group whose first item is dead": Story()
    .enqueue(0, "a", "b", group="g")
    .claim(1, "w1", "r1", "a")
    .settle(2, "w1", "fail", "r1", "a", answer="dead")
    .claim(3, "w1", "r2", "b"),
    "two groups side by side": Story()
    .enqueue(0, "a", group="g")
    .enqueue(1, "b", group="h")
    .claim(2, "w1", "r1", "b")
    .handle(2, "w1", "r1", "b", 5)
    .claim(3, "w2", "r2", "a")
    .handle(3, "w2", "r2", "a", 5),
    "a group's handler that hangs beyond its lease": Story()
    .enqueue(0, "a", "b", group="g")
    .claim(1, "w1", "r1", "a", lease=1)
    .handle(1, "w1", "r1", "a", 9)
    .claim(3, "w2", "r2", "a", number=2)
    .finish(4, "w2", "r2", "a")
    .claim(5, "w2", "r3", "b")
    .handle(5, "w2", "r3", "b", 6),
    "a claim asked for again after a part was finished": Story()
    .enqueue(0, "a", "b")
    .claim(1, "w1", "r1", "a", "b")
    .finish(2, "w1", "r1", "a")
    .claim(3, "w1", "r1", "b"),
    "counts that agree": Story()
    .enqueue(0, "a", "b")
    .claim(1, "w1", "r1", "a")
    .finish(2, "w1", "r1", "a")
    .final(9, finished=["a"], queued=["b"])
    .counts(9, finished=1, queued=1, enqueued=2),
}
