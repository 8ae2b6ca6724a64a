-- What happened to each task, in the order in which it was committed; rows are added and, with their task, go.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL,
    event TEXT NOT NULL,
    from_status TEXT,
    to_status TEXT NOT NULL,
    actor_type TEXT,
    actor_id TEXT,
    message_id INTEGER,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_task ON audit (task_id);
-- The one row of this is written to find out whether anything can be.
CREATE TABLE write_probe (
    id INTEGER PRIMARY KEY,
    written_at INTEGER NOT NULL
) STRICT;
INSERT INTO write_probe (id, written_at) VALUES (1, 0);
