"""Make the first ledger: accounts, responses, what was tried, and the log."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

RESPONSE_CHECKS = {
    "state": "state IN ('live', 'claimed', 'verifying', 'gone', 'quarantined')",
    "outcome": (
        "outcome IN ('deleted', 'absent_after_attempt', 'already_absent',"
        " 'expired_by_provider', 'closed', 'still_present', 'unconfirmed', 'not_visible',"
        " 'rejected', 'failing')"
    ),
    "created_at": "created_at IS NOT NULL OR state = 'quarantined'",
    "finished": "(state = 'gone') = (finished_at IS NOT NULL)",
    "gone_outcome": (
        "state <> 'gone' OR outcome IN ('deleted', 'absent_after_attempt',"
        " 'already_absent', 'expired_by_provider', 'closed')"
    ),
    "deleted_needs_a_yes": "outcome <> 'deleted' OR yes_at IS NOT NULL",
    "verified": "verified = 0 OR outcome = 'deleted'",
    "claim": "state <> 'claimed' OR token IS NOT NULL",
    "token": "token IS NULL OR state IN ('claimed', 'verifying')",
    "verifying": "state <> 'verifying' OR yes_at IS NOT NULL",
    "aside": "state <> 'quarantined' OR quarantine_reason IS NOT NULL",
    "attempts": "claims >= attempts AND attempts >= 0",
    "parent": "parent_id <> id",
}

RESPONSE_INDEXES = {
    "ix_responses_already_absent": (
        ["account_id", "finished_at"],
        "outcome = 'already_absent'",
    ),
    "ix_responses_children": (["parent_id"], "parent_id IS NOT NULL AND state <> 'gone'"),
    "ix_responses_claimed": (["account_id"], "token IS NOT NULL"),
    "ix_responses_live": (
        ["label_set_id", "created_at", "id", "next_try_at"],
        "state = 'live'",
    ),
    "ix_responses_open": (
        ["label_set_id", "created_at"],
        "state = 'live' AND outcome IS NOT NULL",
    ),
    "ix_responses_orphans": (
        ["account_id", "previous_response_id"],
        "previous_response_id IS NOT NULL AND parent_id IS NULL",
    ),
    "ix_responses_quarantined": (["label_set_id", "created_at"], "state = 'quarantined'"),
    "ix_responses_subject": (["subject"], "subject IS NOT NULL"),
    "ix_responses_verifying": (["account_id", "verify_at"], "state = 'verifying'"),
}


def upgrade() -> None:
    _ledger()
    _accounts()
    _breakers()
    _label_sets()
    _sightings()
    _registrations()
    _responses()
    _attempts()
    _records()
    _reasons()
    _sweeps()
    _leases()


def downgrade() -> None:
    for name in (
        "leases",
        "sweeps",
        "reasons",
        "records",
        "attempts",
        "responses",
        "registrations",
        "sightings",
        "label_sets",
        "breakers",
        "accounts",
        "ledger",
    ):
        op.drop_table(name)


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ledger_id", sa.Text(), nullable=False),
        sa.Column("fingerprint_salt", sa.Text(), nullable=False),
        sa.Column("copied_at", BIG),
        sa.Column("last_good_at", BIG),
        sa.Column("log_origin", sa.Text(), nullable=False),
        sa.Column("log_size", BIG, server_default="0", nullable=False),
        sa.Column("log_last_at", BIG, server_default="0", nullable=False),
        sa.Column("policies_sha256", sa.Text()),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_only_row")),
        sa.CheckConstraint("log_size >= 0", name=op.f("ck_ledger_log_size")),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
        sqlite_strict=True,
    )


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text()),
        sa.Column("base_url", sa.Text()),
        sa.Column("pinned_account_id", sa.Text()),
        sa.Column("key_fingerprint", sa.Text()),
        sa.Column("identity", sa.Text()),
        sa.Column("get_seen_key", sa.Text()),
        sa.Column("not_found_recent", sa.Text(), server_default="", nullable=False),
        sa.Column("expect_absent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_yes_at", BIG),
        sa.Column("control_at", BIG),
        sa.Column("control", sa.Text()),
        sa.CheckConstraint("expect_absent >= 0", name=op.f("ck_accounts_expect_absent")),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
        sa.UniqueConstraint("identity", name="uq_accounts_identity"),
        sqlite_strict=True,
    )


def _breakers() -> None:
    op.create_table(
        "breakers",
        sa.Column("account_id", BIG, nullable=False),
        sa.Column("breaker", sa.Text(), nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_breakers_account_id"),
        sa.PrimaryKeyConstraint("account_id", "breaker", name="pk_breakers"),
        sqlite_strict=True,
    )


def _label_sets() -> None:
    op.create_table(
        "label_sets",
        sa.Column("id", BIG, nullable=False),
        sa.Column("account_id", BIG, nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("live_count", BIG, server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_label_sets_account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_label_sets"),
        sa.UniqueConstraint("account_id", "labels", name="uq_label_sets_account_id_labels"),
        sqlite_strict=True,
    )


def _sightings() -> None:
    op.create_table(
        "sightings",
        sa.Column("label_set_id", BIG, nullable=False),
        sa.Column("key_fingerprint", sa.Text(), nullable=False),
        sa.Column("seen_at", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["label_set_id"], ["label_sets.id"], name="fk_sightings_label_set_id"
        ),
        sa.PrimaryKeyConstraint("label_set_id", "key_fingerprint", name="pk_sightings"),
        sqlite_strict=True,
    )


def _registrations() -> None:
    op.create_table(
        "registrations",
        sa.Column("id", BIG, nullable=False),
        sa.Column("received_at", BIG),
        sa.Column("account", sa.Text()),
        sa.Column("response_id", sa.Text()),
        sa.Column("created_at", BIG),
        sa.Column("labels", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("previous_response_id", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_registrations"),
        sqlite_strict=True,
    )


def _responses() -> None:
    op.create_table(
        "responses",
        *_response_columns(),
        *(
            sa.CheckConstraint(rule, name=op.f(f"ck_responses_{name}"))
            for name, rule in RESPONSE_CHECKS.items()
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_responses_account_id"),
        sa.ForeignKeyConstraint(
            ["label_set_id"], ["label_sets.id"], name="fk_responses_label_set_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
        sa.UniqueConstraint(
            "account_id", "response_id", name="uq_responses_account_id_response_id"
        ),
        sqlite_strict=True,
    )
    for name, (columns, where) in RESPONSE_INDEXES.items():
        _partial(name, "responses", columns, where)


def _response_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", BIG, nullable=False),
        sa.Column("account_id", BIG, nullable=False),
        sa.Column("response_id", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("salt", sa.Text()),
        sa.Column("label_set_id", BIG, nullable=False),
        sa.Column("created_at", BIG),
        sa.Column("first_created_at", BIG),
        sa.Column("registered_at", BIG, nullable=False),
        sa.Column("registered_seq", BIG, nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("previous_response_id", sa.Text()),
        sa.Column("parent_id", BIG),
        sa.Column("state", sa.Text(), server_default="live", nullable=False),
        sa.Column("quarantine_reason", sa.Text()),
        sa.Column("outcome", sa.Text()),
        sa.Column("verified", sa.Integer(), server_default="0", nullable=False),
        sa.Column("touched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("claims", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ambiguous", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("token", sa.Text()),
        sa.Column("claim_deadline", BIG),
        sa.Column("settled_token", sa.Text()),
        sa.Column("next_try_at", BIG),
        sa.Column("verify_at", BIG),
        sa.Column("yes_at", BIG),
        sa.Column("yes_key", sa.Text()),
        sa.Column("yes_date", BIG),
        sa.Column("yes_request_id", sa.Text()),
        sa.Column("first_attempt_at", BIG),
        sa.Column("last_attempt_at", BIG),
        sa.Column("finished_at", BIG),
        sa.Column("policy", sa.Text()),
        sa.Column("due_at", BIG),
        sa.Column("deadline_at", BIG),
        sa.Column("policies_sha256", sa.Text()),
        sa.Column("sweep_id", sa.Text()),
        sa.Column("record_seq", BIG),
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("response_pk", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_id", BIG, nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("claimed_at", BIG, nullable=False),
        sa.Column("is_first", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unsent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("answered_at", BIG),
        sa.Column("answer", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.ForeignKeyConstraint(["response_pk"], ["responses.id"], name="fk_attempts_response_pk"),
        sa.PrimaryKeyConstraint("response_pk", "number", name="pk_attempts"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    _partial("ix_attempts_first", "attempts", ["account_id", "claimed_at"], "is_first = 1")


def _records() -> None:
    op.create_table(
        "records",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_records"),
        sqlite_strict=True,
    )


def _reasons() -> None:
    op.create_table(
        "reasons",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["records.seq"], name="fk_reasons_seq"),
        sa.PrimaryKeyConstraint("seq", name="pk_reasons"),
        sqlite_strict=True,
    )


def _sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("finished_at", BIG),
        sa.Column("complete", sa.Integer()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("summary", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
        sqlite_strict=True,
    )
    op.create_index("ix_sweeps_started_at", "sweeps", ["started_at"])


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("expires_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
        sqlite_strict=True,
    )
