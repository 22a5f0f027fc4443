-- Calls outlive their functions and apps, so that nothing here refers to those. All times are the
-- database's, in milliseconds; null where there is none. Ids sort by time.
CREATE TABLE calls (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    app_id TEXT COLLATE "C" NOT NULL,
    fn_id TEXT COLLATE "C" NOT NULL,
    trigger_id TEXT,
    kind TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C",
    path TEXT COLLATE "C" NOT NULL,
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    image TEXT NOT NULL,
    priority BIGINT NOT NULL,
    tags TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    crashes BIGINT NOT NULL,
    lease_losses BIGINT NOT NULL,
    setbacks BIGINT NOT NULL,
    backoff_ms BIGINT NOT NULL,
    error TEXT,
    origin_id TEXT,
    -- The call that was made of it when it was redriven.
    successor_id TEXT,
    callback_url TEXT,
    runner_id TEXT COLLATE "C",
    result_status BIGINT,
    created_at BIGINT NOT NULL,
    due_at BIGINT,
    expires_at BIGINT,
    -- When the last attempt that is over began; that of a running one is with the attempt.
    started_at BIGINT,
    completed_at BIGINT
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- A list asks each index for each pair of kind and state that it shows, and merges what it gets: so
-- one index serves the lists with and without those filters, and a rare state is found at once.
CREATE INDEX calls_by_fn ON calls (fn_id, kind, state, id);
CREATE INDEX calls_by_app ON calls (app_id, kind, state, id);
CREATE INDEX calls_by_state ON calls (kind, state, id);
-- A page of an index takes no text of any length.
CREATE INDEX calls_by_path ON calls (substr(path, 1, 256), id);
-- What is over, for retention.
CREATE INDEX calls_over ON calls (completed_at, id) WHERE completed_at IS NOT NULL;

CREATE TABLE call_tags (
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    call_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, value, call_id)
);

CREATE INDEX call_tags_of_call ON call_tags (call_id);

-- The function and its app as calls found them, once for all calls that found the same.
CREATE TABLE call_snapshots (
    -- SHA-256 of the document.
    hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    document TEXT NOT NULL,
    -- No call that was accepted a day or more after this refers to it.
    used_at BIGINT NOT NULL
);

CREATE INDEX call_snapshots_used ON call_snapshots (used_at);

CREATE TABLE call_requests (
    call_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    snapshot TEXT COLLATE "C" NOT NULL
);

CREATE TABLE call_results (
    call_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    status BIGINT NOT NULL,
    headers TEXT NOT NULL,
    body BYTEA NOT NULL,
    truncated BIGINT NOT NULL
);

-- One row for each claim. That of a running call holds its lease, so that to renew it leaves the
-- call's own row and its indexes alone.
CREATE TABLE call_attempts (
    call_id TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    runner_id TEXT COLLATE "C" NOT NULL,
    claimed_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    error TEXT,
    result_status BIGINT,
    PRIMARY KEY (call_id, epoch)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX call_attempts_leases ON call_attempts (lease_until) WHERE status = 'running';

-- One row for each call that waits: from when it is accepted, or queued again, until it is claimed
-- or over.
CREATE TABLE doorbells (
    call_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    fn_id TEXT COLLATE "C" NOT NULL,
    priority BIGINT NOT NULL,
    -- Function and priority: within a lane, what is due first goes first.
    lane TEXT COLLATE "C" NOT NULL,
    due_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- Whether the call's own row has to become queued when it is due.
    delayed BIGINT NOT NULL,
    -- When the broker confirmed it; null as long as it has to be rung.
    rung_at BIGINT
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

CREATE INDEX doorbells_unrung ON doorbells (lane, due_at) WHERE rung_at IS NULL;
CREATE INDEX doorbells_rung ON doorbells (rung_at) WHERE rung_at IS NOT NULL;
CREATE INDEX doorbells_rung_of_fn ON doorbells (fn_id) WHERE rung_at IS NOT NULL;
CREATE INDEX doorbells_expiring ON doorbells (expires_at);

CREATE TABLE call_keys (
    fn_id TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    call_id TEXT COLLATE "C" NOT NULL,
    -- Until when a client that waits holds it, or when that client was answered; null for a durable
    -- call, which holds it as long as it is kept itself.
    hold_until BIGINT,
    -- Whether the client that waited was answered.
    done BIGINT NOT NULL,
    PRIMARY KEY (fn_id, idempotency_key)
);

CREATE INDEX call_keys_of_call ON call_keys (call_id);
CREATE INDEX call_keys_held ON call_keys (hold_until) WHERE hold_until IS NOT NULL;

CREATE TABLE callbacks (
    call_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    tries BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    -- When it was delivered or given up.
    ended_at BIGINT,
    delivered BIGINT NOT NULL,
    error TEXT
);

CREATE INDEX callbacks_due ON callbacks (due_at) WHERE ended_at IS NULL;

-- How far retention has come through the calls that are over.
CREATE TABLE call_retention (
    kind TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    completed_at BIGINT NOT NULL,
    call_id TEXT COLLATE "C" NOT NULL
);

INSERT INTO call_retention (kind, completed_at, call_id) VALUES ('results', 0, ''), ('logs', 0, '');
