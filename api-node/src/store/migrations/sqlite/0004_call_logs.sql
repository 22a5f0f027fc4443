-- Logs of calls, in parts as they came. The id of a call tells when it was made: old ones come first.
CREATE TABLE call_logs (
    call_id TEXT NOT NULL,
    -- The attempt.
    epoch INTEGER NOT NULL,
    -- Where the part begins in the log of its attempt, in bytes.
    start INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (call_id, epoch, start)
) STRICT;
