-- The changes of SQLite's version 7: what tasks add up to, narrower indexes, and an audit trail that is added to.
CREATE TABLE task_counts (
    project_id BIGINT NOT NULL,
    channel TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    is_directed BIGINT NOT NULL,
    count BIGINT NOT NULL,
    completed_ms BIGINT NOT NULL,
    PRIMARY KEY (project_id, channel, status, is_directed)
) WITH (fillfactor = 50);
INSERT INTO task_counts
    SELECT project_id, channel, status, CASE WHEN recipient_id IS NULL THEN 0 ELSE 1 END, COUNT(*),
        CAST(COALESCE(SUM(completed_at - created_at), 0) AS BIGINT)
    FROM tasks GROUP BY 1, 2, 3, 4;
CREATE TABLE task_minutes (
    minute BIGINT NOT NULL,
    project_id BIGINT NOT NULL,
    is_directed BIGINT NOT NULL,
    created BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    PRIMARY KEY (minute, project_id, is_directed)
) WITH (fillfactor = 50);
INSERT INTO task_minutes
    SELECT at / 60000, project_id, is_directed, SUM(created), SUM(completed) FROM (
        SELECT created_at AS at, project_id, CASE WHEN recipient_id IS NULL THEN 0 ELSE 1 END AS is_directed,
            1 AS created, 0 AS completed
        FROM tasks
        UNION ALL SELECT completed_at, project_id, CASE WHEN recipient_id IS NULL THEN 0 ELSE 1 END, 0, 1
        FROM tasks WHERE completed_at IS NOT NULL
    ) AS moments GROUP BY 1, 2, 3;
CREATE TABLE offer_days (
    day BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    is_directed BIGINT NOT NULL,
    count BIGINT NOT NULL,
    bytes DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (day, status, is_directed)
) WITH (fillfactor = 50);
INSERT INTO offer_days
    SELECT created_at / 86400000, status, CASE WHEN recipient_id IS NULL THEN 0 ELSE 1 END, COUNT(*),
        COALESCE(SUM(CAST(file_size AS DOUBLE PRECISION)), 0)
    FROM tasks WHERE type = 'file_offer' GROUP BY 1, 2, 3;
DROP INDEX offers_by_age;
CREATE INDEX offers_by_age ON tasks (created_at, id) WHERE type = 'file_offer';
-- Of many tasks that have the same there, the order is in the index too, where SQLite has it by itself.
DROP INDEX tasks_by_priority;
CREATE INDEX tasks_by_priority ON tasks (project_id, priority, id);
DROP INDEX tasks_by_title;
CREATE INDEX tasks_by_title ON tasks (project_id, lower(title), id);
DROP INDEX tasks_by_rest;
CREATE INDEX tasks_by_rest ON tasks (status, updated_at)
    WHERE status IN ('completed', 'cancelled', 'failed', 'rejected');
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'the audit trail is not changed';
    END IF;
    IF EXISTS (SELECT 1 FROM tasks WHERE id = OLD.task_id) THEN
        RAISE EXCEPTION 'the audit trail of a task goes with it alone';
    END IF;
    RETURN OLD;
END
$$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
