-- What the page lists transfers by, and what it adds up: offers alone, by age, with the size of their files.
ALTER TABLE tasks ADD COLUMN file_size INTEGER;
UPDATE tasks SET file_size = CASE
    WHEN json_type(payload, '$.size') = 'integer' THEN json_extract(payload, '$.size')
    WHEN json_type(payload, '$.file_size') = 'integer' THEN json_extract(payload, '$.file_size')
    WHEN json_type(payload, '$.fileSize') = 'integer' THEN json_extract(payload, '$.fileSize')
END
WHERE type = 'file_offer';
-- Whoever may see a transfer, and all that is added up of it, stands in this one: totals need not read the tasks.
CREATE INDEX offers_by_age ON tasks (created_at, id, status, file_size, recipient_id, source_id, assignee_id)
    WHERE type = 'file_offer';
CREATE INDEX offers_by_status ON tasks (status, created_at, id) WHERE type = 'file_offer';
CREATE INDEX offers_by_source ON tasks (source_id, created_at, id) WHERE type = 'file_offer';
CREATE INDEX offers_by_recipient ON tasks (recipient_id, created_at, id) WHERE type = 'file_offer';
CREATE INDEX offers_by_assignee ON tasks (assignee_id, created_at, id)
    WHERE type = 'file_offer' AND assignee_id IS NOT NULL;
