-- Logs of calls, in parts as they came. The id of a call tells when it was made: old ones come first.
CREATE TABLE call_logs (
    call_id TEXT COLLATE "C" NOT NULL,
    -- The attempt.
    epoch BIGINT NOT NULL,
    -- Where the part begins in the log of its attempt, in bytes.
    start BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (call_id, epoch, start)
);
