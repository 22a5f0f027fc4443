-- Many calls, written by the database itself: a few busy functions and many others, every state, a month long.

-- Ids as nodes make them: the time, and what tells ids of one time apart.
CREATE FUNCTION bench_id(millis BIGINT, n BIGINT) RETURNS TEXT LANGUAGE SQL IMMUTABLE PARALLEL SAFE RETURN
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (millis >> 45)::INT % 32 + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (millis >> 40)::INT % 32 + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (millis >> 35)::INT % 32 + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (millis >> 30)::INT % 32 + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> 25) & 31)::INT + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> 20) & 31)::INT + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> 15) & 31)::INT + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> 10) & 31)::INT + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', ((millis >> 5) & 31)::INT + 1, 1) ||
    substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', (millis & 31)::INT + 1, 1) ||
    lpad(upper(to_hex(n)), 16, '0');
-- Evenly spread over 0 to 1; the same for the same number.
CREATE FUNCTION bench_share(n BIGINT, what BIGINT) RETURNS FLOAT8 LANGUAGE SQL IMMUTABLE PARALLEL SAFE RETURN
    (hashint8extended(n, what) & 1048575) / 1048576.0::FLOAT8;

-- Calls that are numbered from `first`, of `total` that are spread over the days before now.
CREATE FUNCTION bench_fill(first BIGINT, count BIGINT, total BIGINT, days BIGINT, now BIGINT) RETURNS VOID LANGUAGE SQL AS $$
WITH shares AS MATERIALIZED (
    SELECT n, now,
        now - (total - n) * (days * 86400000) / total AS at,
        CASE WHEN n % 2000000 = 77 THEN 401 ELSE floor(400 * power(bench_share(n, 1), 4))::BIGINT END AS fn,
        bench_share(n, 2) AS kind, bench_share(n, 3) AS state, bench_share(n, 4) AS trigger,
        bench_share(n, 5) AS reason, bench_share(n, 6) AS took, bench_share(n, 7) AS tag
    FROM generate_series(first, first + count - 1) AS n
),
states AS MATERIALIZED (
    SELECT *, CASE WHEN kind < 0.7 THEN 'sync' ELSE 'async' END AS kind_,
        CASE WHEN kind < 0.7 THEN CASE
                WHEN state < 0.97 THEN 'success' WHEN state < 0.995 THEN 'error'
                WHEN state < 0.999 THEN 'timeout' ELSE 'cancelled' END
            -- What waits and runs is new.
            WHEN n > total - 20000 THEN CASE
                WHEN state < 0.003 THEN 'running' WHEN state < 0.3 THEN 'queued'
                WHEN state < 0.35 THEN 'delayed' ELSE 'success' END
            ELSE CASE
                WHEN state < 0.93 THEN 'success' WHEN state < 0.96 THEN 'error'
                WHEN state < 0.97 THEN 'timeout' WHEN state < 0.97001 THEN 'cancelled' ELSE 'dead' END
        END AS state_
    FROM shares
),
made AS MATERIALIZED (
    SELECT *, bench_id(at, n) AS id, lpad('FN' || fn, 26, '0') AS fn_id, lpad('APP' || fn % 20, 26, '0') AS app_id,
        state_ NOT IN ('delayed', 'queued', 'running') AS over,
        CASE WHEN tag < 0.1 THEN 'c' || n % 50000 END AS customer,
        CASE WHEN tag < 0.09 THEN 'prod' WHEN tag < 0.1 THEN 'test' END AS env
    FROM states
),
calls_ AS (
    INSERT INTO calls (id, app_id, fn_id, trigger_id, kind, state, reason, path, method, url, image, priority, tags,
        epoch, attempts, max_attempts, crashes, lease_losses, setbacks, backoff_ms, error, runner_id, result_status,
        created_at, due_at, expires_at, started_at, completed_at)
    SELECT id, app_id, fn_id, CASE WHEN trigger < 0.3 THEN fn_id END, kind_, state_,
        CASE WHEN state_ = 'dead' THEN CASE
            WHEN reason < 0.8 THEN 'retries_exhausted' WHEN reason < 0.95 THEN 'expired'
            WHEN reason < 0.9999 THEN 'permanent' ELSE 'poison' END END,
        CASE WHEN trigger < 0.3 THEN '/hooks/' || fn % 50 ELSE '/invoke/' || fn_id END,
        'POST', 'http://functions.example.com/invoke/' || fn_id, 'registry.example.com/team/function-' || fn || ':1.0.7',
        0,
        CASE WHEN customer IS NULL THEN '{}' ELSE '{"customer":"' || customer || '","env":"' || env || '"}' END,
        CASE WHEN kind_ = 'async' AND state_ NOT IN ('queued', 'delayed') THEN 1 ELSE 0 END,
        CASE WHEN state_ IN ('error', 'timeout', 'dead') THEN 1 ELSE 0 END,
        CASE WHEN kind_ = 'async' THEN 3 ELSE 1 END, 0, 0, 0, 0,
        CASE WHEN state_ IN ('error', 'timeout', 'dead') THEN 'the function answered with status 500' END,
        CASE WHEN kind_ = 'async' AND over THEN NULL WHEN state_ = 'running' THEN 'runner-1' END,
        CASE WHEN state_ = 'success' THEN 200 WHEN state_ = 'error' THEN 500 END,
        at, CASE WHEN state_ = 'delayed' THEN at + 86400000 WHEN kind_ = 'async' THEN at END,
        CASE WHEN kind_ = 'async' THEN at + 6 * 3600000 END,
        CASE WHEN over THEN at + 5 END,
        CASE WHEN over THEN at + 10 + (took * 2000)::BIGINT END
    FROM made
),
tags_ AS (
    INSERT INTO call_tags (name, value, call_id)
    SELECT 'customer', customer, id FROM made WHERE customer IS NOT NULL
    UNION ALL SELECT 'env', env, id FROM made WHERE env IS NOT NULL
    UNION ALL SELECT 'incident', '42', id FROM made WHERE n % 3000000 = 1234567
),
attempts_ AS (
    INSERT INTO call_attempts (call_id, epoch, status, runner_id, claimed_at, lease_until, started_at, ended_at,
        error, result_status)
    SELECT id, 1, CASE state_ WHEN 'running' THEN 'running' WHEN 'success' THEN 'success' ELSE 'error' END, 'runner-1',
        at + 3, CASE WHEN state_ = 'running' THEN at + 86400000 ELSE at + 10000 END, at + 5,
        CASE WHEN over THEN at + 10 + (took * 2000)::BIGINT END, NULL,
        CASE WHEN state_ = 'success' THEN 200 END
    FROM made WHERE kind_ = 'async' AND state_ NOT IN ('queued', 'delayed')
),
requests_ AS (
    INSERT INTO call_requests (call_id, headers, body, snapshot)
    SELECT id, '[["content-type","application/json"]]', '{"hello":"world"}', '' FROM made
    WHERE kind_ = 'async' AND (state_ = 'dead' OR at > now - 86400000)
)
INSERT INTO call_results (call_id, status, headers, body, truncated)
SELECT id, 200, '[["content-type","application/json"]]', '{"hello":"world"}', 0 FROM made
WHERE kind_ = 'async' AND state_ = 'success' AND at > now - 86400000
$$;

-- Results and logs have been looked after as far as they would be.
UPDATE call_retention SET completed_at = (EXTRACT(EPOCH FROM now())::BIGINT - CASE kind
    WHEN 'results' THEN 86400 ELSE 7 * 86400 END) * 1000;

-- Indexes are made when the rows are there.
CREATE TABLE bench_indexes AS SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::REGCLASS, conname) AS drop,
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::REGCLASS, conname, pg_get_constraintdef(oid)) AS make
    FROM pg_constraint WHERE contype = 'p' AND conrelid::REGCLASS::TEXT IN
        ('calls', 'call_tags', 'call_attempts', 'call_requests', 'call_results')
    UNION ALL SELECT format('DROP INDEX %I', indexname), indexdef FROM pg_indexes
    WHERE tablename IN ('calls', 'call_tags', 'call_attempts', 'call_requests', 'call_results')
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = indexname);
DO $$ DECLARE one RECORD; BEGIN FOR one IN SELECT * FROM bench_indexes LOOP EXECUTE one.drop; END LOOP; END $$;
