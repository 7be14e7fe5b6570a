"""Add what the daemon keeps: the spool's positions, the schedule's history, open alarms."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

RESPONSE_INDEXES = {
    "ix_responses_gone": ("finished_at", "state = 'gone'"),
    "ix_responses_kept_after_yes": (
        "account_id",
        "yes_at IS NOT NULL AND state <> 'gone' AND (state <> 'verifying' OR outcome IS NOT NULL)",
    ),
    "ix_responses_next_try": ("next_try_at", "state = 'live' AND next_try_at IS NOT NULL"),
}


def upgrade() -> None:
    for name, (column, where) in RESPONSE_INDEXES.items():
        rows = sa.text(where)
        op.create_index(name, "responses", [column], sqlite_where=rows, postgresql_where=rows)
    _spool_files()
    _spool_rejects()
    _schedules()
    _alarms()


def downgrade() -> None:
    for table in ("alarms", "schedules", "spool_rejects", "spool_files"):
        op.drop_table(table)
    for name in RESPONSE_INDEXES:
        op.drop_index(name, "responses")


def _spool_files() -> None:
    op.create_table(
        "spool_files",
        sa.Column("id", BIG, nullable=False),
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("device", BIG, nullable=False),
        sa.Column("inode", BIG, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("modified_ns", BIG, nullable=False),
        sa.Column("position", BIG, server_default="0", nullable=False),
        sa.Column("lines", BIG, server_default="0", nullable=False),
        sa.Column("tally", sa.Text(), server_default="{}", nullable=False),
        sa.Column("target", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_spool_files"),
        sa.UniqueConstraint(
            "spool",
            "name",
            "device",
            "inode",
            "size",
            "modified_ns",
            name="uq_spool_files_spool_name_device_inode_size_modified_ns",
        ),
        sqlite_strict=True,
    )


def _spool_rejects() -> None:
    op.create_table(
        "spool_rejects",
        sa.Column("file_id", BIG, nullable=False),
        sa.Column("line", BIG, nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["spool_files.id"], name="fk_spool_rejects_file_id"),
        sa.PrimaryKeyConstraint("file_id", "line", name="pk_spool_rejects"),
        sqlite_strict=True,
    )


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("since", BIG, autoincrement=False, nullable=False),
        sa.Column("every", BIG),
        sa.Column("cron", sa.Text()),
        sa.CheckConstraint("(every IS NULL) <> (cron IS NULL)", name=op.f("ck_schedules_one")),
        sa.PrimaryKeyConstraint("since", name="pk_schedules"),
        sqlite_strict=True,
    )


def _alarms() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("told_at", BIG),
        sa.Column("try_at", BIG, nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resolved_at", BIG),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
        sqlite_strict=True,
    )
