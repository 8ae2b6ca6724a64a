-- What tasks add up to, kept with each change: by project, channel and state; by the minute in which they were made
-- and completed; and of offers by day. What is directed is meant for one actor, and not shown to others.
CREATE TABLE task_counts (
    project_id INTEGER NOT NULL,
    channel TEXT NOT NULL,
    status TEXT NOT NULL,
    is_directed INTEGER NOT NULL,
    count INTEGER NOT NULL,
    completed_ms INTEGER NOT NULL,
    PRIMARY KEY (project_id, channel, status, is_directed)
) STRICT, WITHOUT ROWID;
INSERT INTO task_counts
    SELECT project_id, channel, status, recipient_id IS NOT NULL, COUNT(*), COALESCE(SUM(completed_at - created_at), 0)
    FROM tasks GROUP BY 1, 2, 3, 4;
CREATE TABLE task_minutes (
    minute INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    is_directed INTEGER NOT NULL,
    created INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    PRIMARY KEY (minute, project_id, is_directed)
) STRICT, WITHOUT ROWID;
INSERT INTO task_minutes
    SELECT at / 60000, project_id, is_directed, SUM(created), SUM(completed) FROM (
        SELECT created_at AS at, project_id, recipient_id IS NOT NULL AS is_directed, 1 AS created, 0 AS completed
        FROM tasks
        UNION ALL SELECT completed_at, project_id, recipient_id IS NOT NULL, 0, 1
        FROM tasks WHERE completed_at IS NOT NULL
    ) GROUP BY 1, 2, 3;
CREATE TABLE offer_days (
    day INTEGER NOT NULL,
    status TEXT NOT NULL,
    is_directed INTEGER NOT NULL,
    count INTEGER NOT NULL,
    bytes REAL NOT NULL,
    PRIMARY KEY (day, status, is_directed)
) STRICT, WITHOUT ROWID;
INSERT INTO offer_days
    SELECT created_at / 86400000, status, recipient_id IS NOT NULL, COUNT(*),
        COALESCE(SUM(CAST(file_size AS REAL)), 0.0)
    FROM tasks WHERE type = 'file_offer' GROUP BY 1, 2, 3;
-- Nobody adds up offers by this any more.
DROP INDEX offers_by_age;
CREATE INDEX offers_by_age ON tasks (created_at, id) WHERE type = 'file_offer';
-- The retention looks for what is over alone.
DROP INDEX tasks_by_rest;
CREATE INDEX tasks_by_rest ON tasks (status, updated_at)
    WHERE status IN ('completed', 'cancelled', 'failed', 'rejected');
CREATE TABLE keys_announced (
    key TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    PRIMARY KEY (key, task_id)
) STRICT, WITHOUT ROWID;
INSERT INTO keys_announced SELECT key, task_id FROM announced_keys;
DROP TABLE announced_keys;
ALTER TABLE keys_announced RENAME TO announced_keys;
CREATE INDEX announced_keys_by_task ON announced_keys (task_id);
-- The trail is added to, and goes with its task alone.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is not changed');
END;
CREATE TRIGGER audit_goes_with_its_task BEFORE DELETE ON audit
WHEN EXISTS (SELECT 1 FROM tasks WHERE id = OLD.task_id) BEGIN
    SELECT RAISE(ABORT, 'the audit trail of a task goes with it alone');
END;
