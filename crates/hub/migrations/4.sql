-- The public keys that open tasks and the messages on them name: those of peers that the relay serves.
CREATE TABLE announced_keys (
    key TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    PRIMARY KEY (key, task_id)
) STRICT;
CREATE INDEX announced_keys_by_task ON announced_keys (task_id);
-- Those of tasks that are open already are read when the writer looks at them as due.
UPDATE tasks SET due = 0 WHERE status IN ('pending', 'in_progress');
-- What lists are filtered and sorted by.
CREATE INDEX tasks_by_state ON tasks (project_id, status, created_at);
CREATE INDEX tasks_by_channel ON tasks (project_id, channel, created_at);
CREATE INDEX tasks_by_assignee ON tasks (project_id, assignee_id, created_at) WHERE assignee_id IS NOT NULL;
CREATE INDEX tasks_by_update ON tasks (project_id, updated_at);
CREATE INDEX tasks_by_priority ON tasks (project_id, priority);
CREATE INDEX tasks_by_title ON tasks (project_id, lower(title));
-- What the retention looks for.
CREATE INDEX tasks_by_rest ON tasks (status, updated_at);
