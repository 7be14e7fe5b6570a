"""The ledger's tables, as migrations make them and statements name them.

Times are integer microseconds since 1970 UTC. SQLite's tables are STRICT, so only the five
column types used here exist on both databases.
"""

from typing import Final

import sqlalchemy as sa

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


ledger = sa.Table(
    "ledger",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("ledger_id", sa.Text, nullable=False),
    sa.Column("fingerprint_salt", sa.Text, nullable=False),
    sa.Column("copied_at", BIG),
    sa.Column("last_good_at", BIG),
    sa.Column("log_origin", sa.Text, nullable=False),
    sa.Column("log_size", BIG, nullable=False, server_default="0"),
    sa.Column("log_last_at", BIG, nullable=False, server_default="0"),
    sa.Column("policies_sha256", sa.Text),
    sa.CheckConstraint("id = 1", name="only_row"),
    sa.CheckConstraint("log_size >= 0", name="log_size"),
    sqlite_strict=True,
)

accounts = sa.Table(
    "accounts",
    METADATA,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("provider", sa.Text),
    sa.Column("base_url", sa.Text),
    sa.Column("pinned_account_id", sa.Text),
    sa.Column("key_fingerprint", sa.Text),
    sa.Column("identity", sa.Text, unique=True),
    sa.Column("get_seen_key", sa.Text),
    sa.Column("not_found_recent", sa.Text, nullable=False, server_default=""),
    sa.Column("expect_absent", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_yes_at", BIG),
    sa.Column("control_at", BIG),
    sa.Column("control", sa.Text),
    sa.CheckConstraint("expect_absent >= 0", name="expect_absent"),
    sqlite_strict=True,
)

breakers = sa.Table(
    "breakers",
    METADATA,
    sa.Column("account_id", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("breaker", sa.Text, primary_key=True),
    sa.Column("opened_at", BIG, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    sqlite_strict=True,
)

label_sets = sa.Table(
    "label_sets",
    METADATA,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("live_count", BIG, nullable=False, server_default="0"),
    sa.UniqueConstraint("account_id", "labels"),
    sqlite_strict=True,
)

sightings = sa.Table(
    "sightings",
    METADATA,
    sa.Column("label_set_id", sa.ForeignKey("label_sets.id"), primary_key=True),
    sa.Column("key_fingerprint", sa.Text, primary_key=True),
    sa.Column("seen_at", BIG, nullable=False),
    sqlite_strict=True,
)

registrations = sa.Table(
    "registrations",
    METADATA,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("received_at", BIG),
    sa.Column("account", sa.Text),
    sa.Column("response_id", sa.Text),
    sa.Column("created_at", BIG),
    sa.Column("labels", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("previous_response_id", sa.Text),
    sqlite_strict=True,
)

responses = sa.Table(
    "responses",
    METADATA,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False),
    sa.Column("response_id", sa.Text, nullable=False),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("salt", sa.Text),
    sa.Column("label_set_id", sa.ForeignKey("label_sets.id"), nullable=False),
    sa.Column("created_at", BIG),
    sa.Column("first_created_at", BIG),
    sa.Column("registered_at", BIG, nullable=False),
    sa.Column("registered_seq", BIG, nullable=False),
    sa.Column("subject", sa.Text),
    sa.Column("previous_response_id", sa.Text),
    sa.Column("parent_id", BIG),
    sa.Column("state", sa.Text, nullable=False, server_default="live"),
    sa.Column("quarantine_reason", sa.Text),
    sa.Column("outcome", sa.Text),
    _flag("verified"),
    _flag("touched"),
    sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("ambiguous", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("token", sa.Text),
    sa.Column("claim_deadline", BIG),
    sa.Column("settled_token", sa.Text),
    sa.Column("next_try_at", BIG),
    sa.Column("verify_at", BIG),
    sa.Column("yes_at", BIG),
    sa.Column("yes_key", sa.Text),
    sa.Column("yes_date", BIG),
    sa.Column("yes_request_id", sa.Text),
    sa.Column("first_attempt_at", BIG),
    sa.Column("last_attempt_at", BIG),
    sa.Column("finished_at", BIG),
    sa.Column("policy", sa.Text),
    sa.Column("due_at", BIG),
    sa.Column("deadline_at", BIG),
    sa.Column("policies_sha256", sa.Text),
    sa.Column("sweep_id", sa.Text),
    sa.Column("record_seq", BIG),
    sa.UniqueConstraint("account_id", "response_id"),
    sa.CheckConstraint(
        "state IN ('live', 'claimed', 'verifying', 'gone', 'quarantined')", name="state"
    ),
    sa.CheckConstraint(
        "outcome IN ('deleted', 'absent_after_attempt', 'already_absent', 'expired_by_provider',"
        " 'closed', 'still_present', 'unconfirmed', 'not_visible', 'rejected', 'failing')",
        name="outcome",
    ),
    sa.CheckConstraint("created_at IS NOT NULL OR state = 'quarantined'", name="created_at"),
    sa.CheckConstraint("(state = 'gone') = (finished_at IS NOT NULL)", name="finished"),
    sa.CheckConstraint(
        "state <> 'gone' OR outcome IN ('deleted', 'absent_after_attempt', 'already_absent',"
        " 'expired_by_provider', 'closed')",
        name="gone_outcome",
    ),
    sa.CheckConstraint("outcome <> 'deleted' OR yes_at IS NOT NULL", name="deleted_needs_a_yes"),
    sa.CheckConstraint("verified = 0 OR outcome = 'deleted'", name="verified"),
    sa.CheckConstraint("state <> 'claimed' OR token IS NOT NULL", name="claim"),
    sa.CheckConstraint("token IS NULL OR state IN ('claimed', 'verifying')", name="token"),
    sa.CheckConstraint("state <> 'verifying' OR yes_at IS NOT NULL", name="verifying"),
    sa.CheckConstraint("state <> 'quarantined' OR quarantine_reason IS NOT NULL", name="aside"),
    sa.CheckConstraint("claims >= attempts AND attempts >= 0", name="attempts"),
    sa.CheckConstraint("parent_id <> id", name="parent"),
    sqlite_strict=True,
)

sa.Index(
    "ix_responses_live",
    responses.c.label_set_id,
    responses.c.created_at,
    responses.c.id,
    responses.c.next_try_at,
    sqlite_where=sa.text("state = 'live'"),
    postgresql_where=sa.text("state = 'live'"),
)
sa.Index(
    "ix_responses_verifying",
    responses.c.account_id,
    responses.c.verify_at,
    sqlite_where=sa.text("state = 'verifying'"),
    postgresql_where=sa.text("state = 'verifying'"),
)
sa.Index(
    "ix_responses_claimed",
    responses.c.account_id,
    sqlite_where=sa.text("token IS NOT NULL"),
    postgresql_where=sa.text("token IS NOT NULL"),
)
sa.Index(
    "ix_responses_quarantined",
    responses.c.label_set_id,
    responses.c.created_at,
    sqlite_where=sa.text("state = 'quarantined'"),
    postgresql_where=sa.text("state = 'quarantined'"),
)
sa.Index(
    "ix_responses_open",
    responses.c.label_set_id,
    responses.c.created_at,
    sqlite_where=sa.text("state = 'live' AND outcome IS NOT NULL"),
    postgresql_where=sa.text("state = 'live' AND outcome IS NOT NULL"),
)
sa.Index(
    "ix_responses_already_absent",
    responses.c.account_id,
    responses.c.finished_at,
    sqlite_where=sa.text("outcome = 'already_absent'"),
    postgresql_where=sa.text("outcome = 'already_absent'"),
)
sa.Index(
    "ix_responses_gone",
    responses.c.finished_at,
    sqlite_where=sa.text("state = 'gone'"),
    postgresql_where=sa.text("state = 'gone'"),
)
sa.Index(
    "ix_responses_next_try",
    responses.c.next_try_at,
    sqlite_where=sa.text("state = 'live' AND next_try_at IS NOT NULL"),
    postgresql_where=sa.text("state = 'live' AND next_try_at IS NOT NULL"),
)
KEPT_AFTER_YES: Final = (
    "yes_at IS NOT NULL AND state <> 'gone' AND (state <> 'verifying' OR outcome IS NOT NULL)"
)
"""The provider said yes, and the response is not gone; what is looked for the first time is not
meant, which is nearly all."""
sa.Index(
    "ix_responses_kept_after_yes",
    responses.c.account_id,
    sqlite_where=sa.text(KEPT_AFTER_YES),
    postgresql_where=sa.text(KEPT_AFTER_YES),
)
sa.Index(
    "ix_responses_children",
    responses.c.parent_id,
    sqlite_where=sa.text("parent_id IS NOT NULL AND state <> 'gone'"),
    postgresql_where=sa.text("parent_id IS NOT NULL AND state <> 'gone'"),
)
sa.Index(
    "ix_responses_orphans",
    responses.c.account_id,
    responses.c.previous_response_id,
    sqlite_where=sa.text("previous_response_id IS NOT NULL AND parent_id IS NULL"),
    postgresql_where=sa.text("previous_response_id IS NOT NULL AND parent_id IS NULL"),
)
sa.Index(
    "ix_responses_subject",
    responses.c.subject,
    sqlite_where=sa.text("subject IS NOT NULL"),
    postgresql_where=sa.text("subject IS NOT NULL"),
)

attempts = sa.Table(
    "attempts",
    METADATA,
    sa.Column("response_pk", sa.ForeignKey("responses.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("account_id", BIG, nullable=False),
    sa.Column("sweep_id", sa.Text, nullable=False),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("claimed_at", BIG, nullable=False),
    _flag("is_first"),
    _flag("unsent"),
    sa.Column("answered_at", BIG),
    sa.Column("answer", sa.Text),
    sa.Column("status", sa.Integer),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
sa.Index(
    "ix_attempts_first",
    attempts.c.account_id,
    attempts.c.claimed_at,
    sqlite_where=sa.text("is_first = 1"),
    postgresql_where=sa.text("is_first = 1"),
)

records = sa.Table(
    "records",
    METADATA,
    sa.Column("seq", BIG, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)

reasons = sa.Table(
    "reasons",
    METADATA,
    sa.Column("seq", sa.ForeignKey("records.seq"), primary_key=True, autoincrement=False),
    sa.Column("salt", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sqlite_strict=True,
)

sweeps = sa.Table(
    "sweeps",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("started_at", BIG, nullable=False),
    sa.Column("finished_at", BIG),
    sa.Column("complete", sa.Integer),
    sa.Column("stop_reason", sa.Text),
    sa.Column("summary", sa.Text),
    sqlite_strict=True,
)
sa.Index("ix_sweeps_started_at", sweeps.c.started_at)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("term", BIG, nullable=False),
    sa.Column("expires_at", BIG, nullable=False),
    sqlite_strict=True,
)

spool_files = sa.Table(
    "spool_files",
    METADATA,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("spool", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("device", BIG, nullable=False),
    sa.Column("inode", BIG, nullable=False),
    sa.Column("size", BIG, nullable=False),
    sa.Column("modified_ns", BIG, nullable=False),
    sa.Column("position", BIG, nullable=False, server_default="0"),
    sa.Column("lines", BIG, nullable=False, server_default="0"),
    sa.Column("tally", sa.Text, nullable=False, server_default="{}"),
    sa.Column("target", sa.Text),
    sa.UniqueConstraint("spool", "name", "device", "inode", "size", "modified_ns"),
    sqlite_strict=True,
)

spool_rejects = sa.Table(
    "spool_rejects",
    METADATA,
    sa.Column("file_id", sa.ForeignKey("spool_files.id"), primary_key=True),
    sa.Column("line", BIG, primary_key=True),
    sa.Column("position", BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sqlite_strict=True,
)

schedules = sa.Table(
    "schedules",
    METADATA,
    sa.Column("since", BIG, primary_key=True, autoincrement=False),
    sa.Column("every", BIG),
    sa.Column("cron", sa.Text),
    sa.CheckConstraint("(every IS NULL) <> (cron IS NULL)", name="one"),
    sqlite_strict=True,
)

alarms = sa.Table(
    "alarms",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("opened_at", BIG, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("told_at", BIG),
    sa.Column("try_at", BIG, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("resolved_at", BIG),
    sqlite_strict=True,
)
