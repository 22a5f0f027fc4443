-- Calls outlive their functions and apps, so that nothing here refers to those. All times are the
-- database's, in milliseconds; null where there is none. Ids sort by time.
CREATE TABLE calls (
    id TEXT NOT NULL PRIMARY KEY,
    app_id TEXT NOT NULL,
    fn_id TEXT NOT NULL,
    trigger_id TEXT,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    path TEXT NOT NULL,
    method TEXT NOT NULL,
    url TEXT NOT NULL,
    image TEXT NOT NULL,
    priority INTEGER NOT NULL,
    tags TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    lease_losses INTEGER NOT NULL,
    setbacks INTEGER NOT NULL,
    backoff_ms INTEGER NOT NULL,
    error TEXT,
    origin_id TEXT,
    -- The call that was made of it when it was redriven.
    successor_id TEXT,
    callback_url TEXT,
    runner_id TEXT,
    result_status INTEGER,
    created_at INTEGER NOT NULL,
    due_at INTEGER,
    expires_at INTEGER,
    -- When the last attempt that is over began; that of a running one is with the attempt.
    started_at INTEGER,
    completed_at INTEGER
) STRICT;

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
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    call_id TEXT NOT NULL,
    PRIMARY KEY (name, value, call_id)
) STRICT;

CREATE INDEX call_tags_of_call ON call_tags (call_id);

-- The function and its app as calls found them, once for all calls that found the same.
CREATE TABLE call_snapshots (
    -- SHA-256 of the document.
    hash TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL,
    -- No call that was accepted a day or more after this refers to it.
    used_at INTEGER NOT NULL
) STRICT;

CREATE INDEX call_snapshots_used ON call_snapshots (used_at);

CREATE TABLE call_requests (
    call_id TEXT NOT NULL PRIMARY KEY,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    snapshot TEXT NOT NULL
) STRICT;

CREATE TABLE call_results (
    call_id TEXT NOT NULL PRIMARY KEY,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    truncated INTEGER NOT NULL
) STRICT;

-- One row for each claim. That of a running call holds its lease, so that to renew it leaves the
-- call's own row and its indexes alone.
CREATE TABLE call_attempts (
    call_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    status TEXT NOT NULL,
    runner_id TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    error TEXT,
    result_status INTEGER,
    PRIMARY KEY (call_id, epoch)
) STRICT;

CREATE INDEX call_attempts_leases ON call_attempts (lease_until) WHERE status = 'running';

-- One row for each call that waits: from when it is accepted, or queued again, until it is claimed
-- or over.
CREATE TABLE doorbells (
    call_id TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    fn_id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- Function and priority: within a lane, what is due first goes first.
    lane TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Whether the call's own row has to become queued when it is due.
    delayed INTEGER NOT NULL,
    -- When the broker confirmed it; null as long as it has to be rung.
    rung_at INTEGER
) STRICT;

CREATE INDEX doorbells_unrung ON doorbells (lane, due_at) WHERE rung_at IS NULL;
CREATE INDEX doorbells_rung ON doorbells (rung_at) WHERE rung_at IS NOT NULL;
CREATE INDEX doorbells_rung_of_fn ON doorbells (fn_id) WHERE rung_at IS NOT NULL;
CREATE INDEX doorbells_expiring ON doorbells (expires_at);

CREATE TABLE call_keys (
    fn_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    call_id TEXT NOT NULL,
    -- Until when a client that waits holds it, or when that client was answered; null for a durable
    -- call, which holds it as long as it is kept itself.
    hold_until INTEGER,
    -- Whether the client that waited was answered.
    done INTEGER NOT NULL,
    PRIMARY KEY (fn_id, idempotency_key)
) STRICT;

CREATE INDEX call_keys_of_call ON call_keys (call_id);
CREATE INDEX call_keys_held ON call_keys (hold_until) WHERE hold_until IS NOT NULL;

CREATE TABLE callbacks (
    call_id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    tries INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    -- When it was delivered or given up.
    ended_at INTEGER,
    delivered INTEGER NOT NULL,
    error TEXT
) STRICT;

CREATE INDEX callbacks_due ON callbacks (due_at) WHERE ended_at IS NULL;

-- How far retention has come through the calls that are over.
CREATE TABLE call_retention (
    kind TEXT NOT NULL PRIMARY KEY,
    completed_at INTEGER NOT NULL,
    call_id TEXT NOT NULL
) STRICT;

INSERT INTO call_retention (kind, completed_at, call_id) VALUES ('results', 0, ''), ('logs', 0, '');
