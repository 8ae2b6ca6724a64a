-- The hubs that share this database and have a DHT: where its nodes are, as JSON, and when they last said so.
CREATE TABLE hubs (
    id TEXT COLLATE "C" PRIMARY KEY,
    nodes TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL
);
