-- Who may come in: keys and invitations by the hashes of their texts, and what became of them, which is only
-- ever added to. And whom an offer is for, which decides who sees it.
CREATE TABLE access_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    actor_id TEXT NOT NULL,
    is_admin INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used INTEGER
) STRICT;
CREATE TABLE invitations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE,
    actor_id TEXT NOT NULL,
    is_admin INTEGER NOT NULL,
    key_lifetime INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    redeemed_at INTEGER
) STRICT;
CREATE TABLE access_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    key_id INTEGER,
    actor_id TEXT NOT NULL,
    address TEXT
) STRICT;
ALTER TABLE tasks ADD COLUMN recipient_id TEXT;
UPDATE tasks SET recipient_id = CASE
    WHEN json_type(payload, '$.recipient_id') = 'text' THEN NULLIF(json_extract(payload, '$.recipient_id'), '')
    WHEN json_type(payload, '$.recipientId') = 'text' THEN NULLIF(json_extract(payload, '$.recipientId'), '')
END
WHERE type = 'file_offer';
