-- Text compares byte by byte, which is the default (BINARY) collation here.
CREATE TABLE apps (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    config TEXT NOT NULL,
    annotations TEXT NOT NULL,
    syslog_url TEXT,
    shape TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT apps_name_unique UNIQUE (name)
) STRICT;

CREATE TABLE fns (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    app_id TEXT NOT NULL,
    image TEXT NOT NULL,
    memory INTEGER NOT NULL,
    timeout INTEGER NOT NULL,
    idle_timeout INTEGER NOT NULL,
    config TEXT NOT NULL,
    annotations TEXT NOT NULL,
    shape TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT fns_name_unique UNIQUE (app_id, name),
    -- What a trigger refers to, so that its function always belongs to its app.
    CONSTRAINT fns_owner_unique UNIQUE (app_id, id),
    CONSTRAINT fns_app_exists FOREIGN KEY (app_id) REFERENCES apps (id) ON DELETE CASCADE
) STRICT;

CREATE TABLE triggers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    app_id TEXT NOT NULL,
    fn_id TEXT NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    annotations TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT triggers_source_unique UNIQUE (app_id, type, source),
    CONSTRAINT triggers_name_unique UNIQUE (app_id, fn_id, name),
    CONSTRAINT triggers_fn_exists FOREIGN KEY (app_id, fn_id) REFERENCES fns (app_id, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX triggers_list ON triggers (app_id, name, id);
