"""softlock for Django: all that stands between the views and the SQL. Copy it, it has no other parts.

An answer is a dataclass, not an exception, and leaves the transaction usable; only what must abort a
sale raises. In autocommit a hold is there for everyone when the call returns; inside
`transaction.atomic` it commits and rolls back with the block.

- Hold 3 of 10: `acquire("rose:7", "anna", units=3, capacity=10)`. The capacity is a row's that is locked.
- Any free seat: `acquire_any(["seat:1", "seat:2", "seat:3"], "anna")`, the best one first.
- Keep the cart while the customer pays: `renew_all("anna", session="cart-9")`, now and then.
- A guest logs in: `transfer("guest:8c1f", "anna", session="cart-9")`.
- No more than 5 per person: the DBA's row in softlock.policies; the outcome is quota.

Django's own tools: with DATABASE_ROUTERS = ["till.softlock.NotInFixtures"] (the module's name in your
project) dumpdata leaves the locks out, and loaddata passes over those of an older dump. A TestCase
rolls the locks back that its tests take; a TransactionTestCase calls `release_everything` in tearDown,
and so does who has run flush, since neither empties softlock's table.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, models, transaction

# softlock's own: not held (consume), held by another (guard), no lock (guard with 'require').
REFUSALS = {"SL001", "SL002", "SL003"}
# PostgreSQL's: a lock timeout or NOWAIT, a serialization failure, a deadlock.
IN_THE_WAY = {"55P03", "40001", "40P01"}


class NotHeld(Exception):
    """A resource is not the owner's (any more): softlock_consume or softlock_guard refused. `detail`
    names each resource and why. The block of `transaction.atomic` around it has been rolled back."""

    def __init__(self, message: str, detail: str):
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Hold:
    """What came of asking for a resource. `owner`, `role`, `metadata` and `expires_at` are the holder's;
    where the outcome is contended, `owner` and `pid` are of who is taking it, if that is known."""

    acquired: bool
    outcome: str | None = None  # granted, renewed, moved; held, contended, quota
    resource: str | None = None
    owner: str | None = None
    role: str | None = None
    pid: int | None = None
    token: int | None = None
    metadata: dict[str, Any] | None = None
    expires_at: datetime | None = None
    retry_after_ms: int | None = None
    # Of a resource of which there are several, how many are held, there are, and can be had.
    units: int = 1
    capacity: int = 1
    available: int | None = None
    # Of the kind, how many locks the owner has and may have, where the outcome is quota.
    held_count: int | None = None
    limit: int | None = None
    # Whether softlock.max_hold, or the kind's, has cut this hold: it can't be prolonged any further.
    capped: bool = False


@dataclass(frozen=True)
class Holds:
    """What came of asking for several at once: all the locks, or none and every conflict."""

    acquired: bool
    locks: list[Hold] = field(default_factory=list)
    conflicts: list[Hold] = field(default_factory=list)


@dataclass(frozen=True)
class Renewal:
    """What is left of a cart: its locks, renewed, and the resources that have lapsed."""

    locks: list[Hold]
    lapsed: list[str]


@dataclass(frozen=True)
class Status:
    """A resource as the asking owner sees it. `session` is there for the holder only; `units` are those
    that all holders have; `pending_owner` is whose transaction is taking or selling it at this moment."""

    resource: str
    is_locked: bool
    locked_by_me: bool
    owner: str | None
    session: str | None
    metadata: dict[str, Any] | None
    expires_at: datetime | None
    remaining: timedelta | None
    units: int | None
    pending_owner: str | None
    pending_pid: int | None


def acquire(
    resource: str,
    owner: str,
    *,
    ttl: timedelta | None = None,
    session: str | None = None,
    metadata: dict[str, Any] | None = None,
    units: int = 1,
    capacity: int = 1,
) -> Hold:
    """Takes the resource for the owner, or says who has it: `units` of `capacity`, where there are several.
    Asking again prolongs the hold, and changes it to as many units."""
    answer = _call(
        "softlock_acquire(%s, %s, ttl => %s, session => %s, metadata => %s, units => %s, capacity => %s)",
        [resource, owner, ttl, session, _to_json(metadata), units, capacity],
    )
    return _hold(answer)


def acquire_many(
    resources: Sequence[str],
    owner: str,
    *,
    ttl: timedelta | None = None,
    session: str | None = None,
    metadata: dict[str, Any] | None = None,
    units: Sequence[int] | None = None,
    capacities: Sequence[int] | None = None,
) -> Holds:
    """Takes all of the resources, or none and says what is in the way of each."""
    answer = _call(
        "softlock_acquire_many(%s, %s, ttl => %s, session => %s, metadata => %s,"
        " units => %s, capacities => %s)",
        [list(resources), owner, ttl, session, _to_json(metadata), _list(units), _list(capacities)],
    )
    return _holds(answer, answer["acquired"])


def acquire_any(
    resources: Sequence[str],
    owner: str,
    count: int = 1,
    *,
    ttl: timedelta | None = None,
    session: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Holds:
    """Takes the first `count` of the resources that can be had, in this order; none if there are fewer."""
    answer = _call(
        "softlock_acquire_any(%s, %s, %s, ttl => %s, session => %s, metadata => %s)",
        [list(resources), owner, count, ttl, session, _to_json(metadata)],
    )
    return _holds(answer, answer["acquired"])


def renew(resource: str, owner: str, *, ttl: timedelta | None = None, token: int | None = None) -> bool:
    """Prolongs the owner's hold, never shortens it; False where it is not (any more) the owner's."""
    return _call("softlock_renew(%s, %s, ttl => %s, token => %s)", [resource, owner, ttl, token])["renewed"]


def renew_all(owner: str, *, session: str | None = None, ttl: timedelta | None = None) -> Renewal:
    """Prolongs all that the owner has, of this session where one is given: a cart's heartbeat."""
    answer = _call("softlock_renew_all(%s, session => %s, ttl => %s)", [owner, session, ttl])
    return Renewal([_hold(lock, acquired=True) for lock in answer["locks"]], answer["lapsed"])


def transfer(
    owner: str,
    new_owner: str,
    resources: Sequence[str] | None = None,
    *,
    session: str | None = None,
    tokens: Sequence[int] | None = None,
) -> Holds:
    """Makes the owner's locks the new owner's, with new tokens, all or none: these, or else all that
    the owner has, of this session where one is given."""
    answer = _call(
        "softlock_transfer(%s, %s, %s, session => %s, tokens => %s)",
        [_list(resources), owner, new_owner, session, _list(tokens)],
    )
    return _holds(answer, answer["transferred"])


def release(resource: str, owner: str, *, token: int | None = None) -> bool:
    """Frees the resource if it is the owner's, and had by this token where one is given."""
    return _call("softlock_release(%s, %s, token => %s)", [resource, owner, token])["released"]


def release_all(owner: str, *, session: str | None = None) -> list[str]:
    """Frees all that the owner has, of this session where one is given, and answers what it was."""
    return _call("softlock_release_all(%s, session => %s)", [owner, session])["resources"]


def release_everything() -> int:
    """Frees every lock that this database role may free, whoever the owner: for tests, and after
    `manage.py flush`, which starts the primary keys anew and leaves the locks on the old ones."""
    owners = ActiveLock.objects.order_by("owner").values_list("owner", flat=True).distinct()
    return sum(len(release_all(owner)) for owner in owners)


def consume(resources: Sequence[str], owner: str, tokens: Sequence[int] | None = None) -> int:
    """Ends the holds, in the transaction that sells. Raises NotHeld if any one is not the owner's."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("consume belongs into the sale's transaction")
    with refusals():
        answer = _call(
            "softlock_consume(%s, %s, tokens => %s)",
            [list(resources), owner, _list(tokens)],
        )
    return answer["consumed_count"]


def break_lock(resource: str, reason: str) -> str | None:
    """Frees anybody's lock and answers whose it was; needs EXECUTE on softlock_break. None where there
    was none, or where its holder's transaction is just ending it."""
    answer = _call("softlock_break(%s, %s)", [resource, reason])
    return answer.get("owner") if answer["broken"] else None


def break_all(
    reason: str,
    *,
    owner: str | None = None,
    session: str | None = None,
    prefix: str | None = None,
    older_than: timedelta | None = None,
) -> int:
    """Frees whoever's locks fit all that is given, of which something must be; needs EXECUTE on
    softlock_break_all."""
    answer = _call("softlock_break_all(%s, %s, %s, %s, %s)", [owner, session, prefix, older_than, reason])
    return answer["broken_count"]


def status(resources: Sequence[str], owner: str | None = None) -> list[Status]:
    """Each resource, in this order, with who has it, and who is just taking it: to paint a page."""
    names = [column.name for column in fields(Status)]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM softlock_status(%s, %s)", [list(resources), owner])
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return [Status(**{**row, "metadata": _from_json(row["metadata"])}) for row in rows]


@contextmanager
def acting_for(owner: str) -> Iterator[None]:
    """A transaction in which softlock_guard lets through what the owner may write, and raises NotHeld
    for the rest."""
    with refusals(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('softlock.owner', %s, true)", [owner])
        yield


@contextmanager
def refusals() -> Iterator[None]:
    """Turns the refusals of consume and of the guard into NotHeld."""
    try:
        yield
    except DatabaseError as error:
        cause = error.__cause__
        if getattr(cause, "sqlstate", None) not in REFUSALS:
            raise
        raise NotHeld(cause.diag.message_primary, cause.diag.message_detail or "") from error


def in_the_way(error: BaseException) -> bool:
    """Whether only another transaction stood in the way, at whatever statement: nothing was changed,
    and the same again may work. It says nothing about who holds what."""
    return isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", None) in IN_THE_WAY


class ActiveLock(models.Model):
    """The view softlock_active: the live locks, for the ORM to join. `role` is a regrole, which compares
    with names after Cast("role", TextField())."""

    resource = models.TextField(primary_key=True)
    owner = models.TextField()
    session = models.TextField(null=True)
    role = models.TextField()
    metadata = models.JSONField(null=True)
    acquired_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    remaining = models.DurationField()
    units = models.IntegerField()

    class Meta:
        managed = False
        db_table = "softlock_active"
        app_label = "till"
        default_permissions = ("view",)
        permissions = [("break_lock", "Can break a lock")]

    def __str__(self) -> str:
        return self.resource


class NotInFixtures:
    """A database router that keeps the locks out of dumpdata and loaddata: they are of the moment, and
    nothing can be written into a view of them."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if hints.get("model") is ActiveLock else None


def _call(call: str, arguments: list[Any]) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {call}", arguments)
        (answer,) = cursor.fetchone()
    return _from_json(answer)


def _hold(answer: dict[str, Any], **more: Any) -> Hold:
    names = {known.name for known in fields(Hold)}
    found = more | {name: value for name, value in answer.items() if name in names}
    if found.get("expires_at"):
        found["expires_at"] = datetime.fromisoformat(found["expires_at"].replace("Z", "+00:00"))
    return Hold(**found)


def _holds(answer: dict[str, Any], acquired: bool) -> Holds:
    return Holds(
        acquired,
        locks=[_hold(lock, acquired=True) for lock in answer.get("locks", [])],
        conflicts=[_hold(conflict, acquired=False) for conflict in answer.get("conflicts", [])],
    )


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _to_json(metadata: dict[str, Any] | None) -> str | None:
    return None if metadata is None else json.dumps(metadata)


def _from_json(value: Any) -> Any:
    """A raw cursor of Django's gives jsonb as text."""
    return json.loads(value) if isinstance(value, str) else value
