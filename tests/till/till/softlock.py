"""softlock for Django: all that stands between the views and the SQL. Copy it, it has no other parts.

An answer is a dataclass, not an exception, and leaves the transaction usable; only what must abort a
sale raises. In autocommit a hold is there for everyone when the call returns; inside
`transaction.atomic` it commits and rolls back with the block.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, models, transaction

LOCK_NOT_AVAILABLE = "55P03"


class NotHeld(Exception):
    """A resource is not the owner's (any more): softlock_consume or softlock_guard refused. `detail`
    names each resource and why. The block of `transaction.atomic` around it has been rolled back."""

    def __init__(self, message: str, detail: str):
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Hold:
    """What came of asking for a resource; `owner`, `metadata` and `expires_at` are the holder's."""

    acquired: bool
    outcome: str  # granted, renewed, moved; held, contended
    owner: str | None = None
    token: int | None = None
    metadata: dict[str, Any] | None = None
    expires_at: datetime | None = None
    retry_after_ms: int | None = None


def acquire(
    resource: str,
    owner: str,
    *,
    ttl: timedelta | None = None,
    session: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Hold:
    """Takes the resource for the owner, or says who has it. Asking again prolongs the hold."""
    answer = _call(
        "softlock_acquire(%s, %s, ttl => %s, session => %s, metadata => %s)",
        [resource, owner, ttl, session, None if metadata is None else json.dumps(metadata)],
    )
    expires_at = answer.get("expires_at")
    return Hold(
        acquired=answer["acquired"],
        outcome=answer["outcome"],
        owner=answer.get("owner"),
        token=answer.get("token"),
        metadata=answer.get("metadata"),
        expires_at=datetime.fromisoformat(expires_at.replace("Z", "+00:00")) if expires_at else None,
        retry_after_ms=answer.get("retry_after_ms"),
    )


def release(resource: str, owner: str, *, token: int | None = None) -> bool:
    """Frees the resource if it is the owner's, and had by this token where one is given."""
    return _call("softlock_release(%s, %s, token => %s)", [resource, owner, token])["released"]


def consume(resources: Sequence[str], owner: str, tokens: Sequence[int] | None = None) -> int:
    """Ends the holds, in the transaction that sells. Raises NotHeld if any one is not the owner's."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("consume belongs into the sale's transaction")
    with refusals():
        answer = _call(
            "softlock_consume(%s, %s, tokens => %s)",
            [list(resources), owner, None if tokens is None else list(tokens)],
        )
    return answer["consumed_count"]


def break_lock(resource: str, reason: str) -> str | None:
    """Frees anybody's lock and answers whose it was; needs EXECUTE on softlock_break."""
    return _call("softlock_break(%s, %s)", [resource, reason]).get("owner")


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
        if getattr(cause, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise NotHeld(cause.diag.message_primary, cause.diag.message_detail or "") from error


class ActiveLock(models.Model):
    """The view softlock_active: the live locks, for the ORM to join."""

    resource = models.TextField(primary_key=True)
    owner = models.TextField()
    session = models.TextField(null=True)
    role = models.TextField()
    metadata = models.JSONField(null=True)
    acquired_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    remaining = models.DurationField()

    class Meta:
        managed = False
        db_table = "softlock_active"
        app_label = "till"
        default_permissions = ("view",)
        permissions = [("break_lock", "Can break a lock")]

    def __str__(self) -> str:
        return self.resource


def _call(call: str, arguments: list[Any]) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {call}", arguments)
        (answer,) = cursor.fetchone()
    # A raw cursor of Django's gives jsonb as text.
    return json.loads(answer) if isinstance(answer, str) else answer
