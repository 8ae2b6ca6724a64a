-- When time alone changes a task. Open tasks are due at once: the writer then works out when each really is.
ALTER TABLE tasks ADD COLUMN due INTEGER;
UPDATE tasks SET due = 0 WHERE status IN ('pending', 'in_progress');
DROP INDEX tasks_by_lease;
CREATE INDEX tasks_by_due ON tasks (due) WHERE due IS NOT NULL;
