-- Collation "C" compares byte by byte, so that names sort as in every other store and cursors agree.
CREATE TABLE apps (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    config TEXT NOT NULL,
    annotations TEXT NOT NULL,
    syslog_url TEXT,
    shape TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT apps_name_unique UNIQUE (name)
);

CREATE TABLE fns (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    app_id TEXT COLLATE "C" NOT NULL,
    image TEXT NOT NULL,
    memory BIGINT NOT NULL,
    timeout BIGINT NOT NULL,
    idle_timeout BIGINT NOT NULL,
    config TEXT NOT NULL,
    annotations TEXT NOT NULL,
    shape TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT fns_name_unique UNIQUE (app_id, name),
    -- What a trigger refers to, so that its function always belongs to its app.
    CONSTRAINT fns_owner_unique UNIQUE (app_id, id),
    CONSTRAINT fns_app_exists FOREIGN KEY (app_id) REFERENCES apps (id) ON DELETE CASCADE
);

CREATE TABLE triggers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    app_id TEXT COLLATE "C" NOT NULL,
    fn_id TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    annotations TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT triggers_source_unique UNIQUE (app_id, type, source),
    CONSTRAINT triggers_name_unique UNIQUE (app_id, fn_id, name),
    CONSTRAINT triggers_fn_exists FOREIGN KEY (app_id, fn_id) REFERENCES fns (app_id, id) ON DELETE CASCADE
);

CREATE INDEX triggers_list ON triggers (app_id, name, id);
