-- Where the tunnel of each hub is; empty where it has none.
ALTER TABLE hubs ADD COLUMN tunnel TEXT COLLATE "C" NOT NULL DEFAULT '';
