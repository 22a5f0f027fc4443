CREATE TABLE public.apps (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    config text NOT NULL,
    annotations text NOT NULL,
    syslog_url text,
    shape text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE public.call_attempts (
    call_id text NOT NULL COLLATE pg_catalog."C",
    epoch bigint NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    runner_id text NOT NULL COLLATE pg_catalog."C",
    claimed_at bigint NOT NULL,
    lease_until bigint NOT NULL,
    started_at bigint,
    ended_at bigint,
    error text,
    result_status bigint
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02');
CREATE TABLE public.call_keys (
    fn_id text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    fingerprint text NOT NULL COLLATE pg_catalog."C",
    call_id text NOT NULL COLLATE pg_catalog."C",
    hold_until bigint,
    done bigint NOT NULL
);
CREATE TABLE public.call_logs (
    call_id text NOT NULL COLLATE pg_catalog."C",
    epoch bigint NOT NULL,
    start bigint NOT NULL,
    data bytea NOT NULL
);
CREATE TABLE public.call_requests (
    call_id text NOT NULL COLLATE pg_catalog."C",
    headers text NOT NULL,
    body bytea NOT NULL,
    snapshot text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.call_results (
    call_id text NOT NULL COLLATE pg_catalog."C",
    status bigint NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL,
    truncated bigint NOT NULL
);
CREATE TABLE public.call_retention (
    kind text NOT NULL COLLATE pg_catalog."C",
    completed_at bigint NOT NULL,
    call_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.call_snapshots (
    hash text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    used_at bigint NOT NULL
);
CREATE TABLE public.call_tags (
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C",
    call_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.callbacks (
    call_id text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL,
    tries bigint NOT NULL,
    due_at bigint NOT NULL,
    ended_at bigint,
    delivered bigint NOT NULL,
    error text
);
CREATE TABLE public.calls (
    id text NOT NULL COLLATE pg_catalog."C",
    app_id text NOT NULL COLLATE pg_catalog."C",
    fn_id text NOT NULL COLLATE pg_catalog."C",
    trigger_id text,
    kind text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    reason text COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    method text NOT NULL,
    url text NOT NULL,
    image text NOT NULL,
    priority bigint NOT NULL,
    tags text NOT NULL,
    epoch bigint NOT NULL,
    attempts bigint NOT NULL,
    max_attempts bigint NOT NULL,
    crashes bigint NOT NULL,
    lease_losses bigint NOT NULL,
    setbacks bigint NOT NULL,
    backoff_ms bigint NOT NULL,
    error text,
    origin_id text,
    successor_id text,
    callback_url text,
    runner_id text COLLATE pg_catalog."C",
    result_status bigint,
    created_at bigint NOT NULL,
    due_at bigint,
    expires_at bigint,
    started_at bigint,
    completed_at bigint
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02', autovacuum_analyze_scale_factor='0.05');
CREATE TABLE public.doorbells (
    call_id text NOT NULL COLLATE pg_catalog."C",
    epoch bigint NOT NULL,
    fn_id text NOT NULL COLLATE pg_catalog."C",
    priority bigint NOT NULL,
    lane text NOT NULL COLLATE pg_catalog."C",
    due_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    delayed bigint NOT NULL,
    rung_at bigint
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000');
CREATE TABLE public.fns (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    app_id text NOT NULL COLLATE pg_catalog."C",
    image text NOT NULL,
    memory bigint NOT NULL,
    timeout bigint NOT NULL,
    idle_timeout bigint NOT NULL,
    config text NOT NULL,
    annotations text NOT NULL,
    shape text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE public.lb_nodes (
    address text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.runners (
    id text NOT NULL COLLATE pg_catalog."C",
    owner text,
    address text NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL,
    draining bigint NOT NULL,
    registered_at bigint NOT NULL,
    lease_until bigint NOT NULL
);
CREATE TABLE public.schema_migrations (
    version bigint NOT NULL,
    dirty boolean NOT NULL
);
CREATE TABLE public.triggers (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    app_id text NOT NULL COLLATE pg_catalog."C",
    fn_id text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    annotations text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
INSERT INTO public.apps VALUES ('00000000010000000008000000', 'shop', '{}', '{}', NULL, NULL, 1, 1);
INSERT INTO public.call_attempts VALUES ('01M8HBBPMN040000001G000000', 1, 'success', 'runner', 1795878673351, 1795878683366, 1795878673366, 1795878673370, NULL, 200);
INSERT INTO public.call_attempts VALUES ('01M8HBBPZ0040000001M000000', 1, 'success', 'runner', 1795878673726, 1795878683741, 1795878673741, 1795878673780, NULL, 200);
INSERT INTO public.call_attempts VALUES ('01M8HBBQE5040000001R000000', 1, 'error', 'runner', 1795878673971, 1795878683976, 1795878673976, 1795878673980, 'the function answered with status 500', 500);
INSERT INTO public.call_attempts VALUES ('01M8HBBQJ0040000001W000000', 1, 'timeout', 'runner', 1795878673995, 1795878683998, 1795878673998, 1795878674003, 'it failed', NULL);
INSERT INTO public.call_attempts VALUES ('01M8HBBQJM0400000020000000', 1, 'error', 'runner', 1795878674014, 1795878684018, 1795878674018, 1795878674020, 'it failed', NULL);
INSERT INTO public.call_attempts VALUES ('01M8HBBQK70400000024000000', 1, 'error', 'runner', 1795878674034, 1795878684037, 1795878674037, 1795878674039, 'the function answered with status 500', 500);
INSERT INTO public.call_attempts VALUES ('01M8HBBQK70400000024000000', 2, 'error', 'runner', 1795878675056, 1795878685059, 1795878675059, 1795878675077, 'the function answered with status 500', 500);
INSERT INTO public.call_attempts VALUES ('01M8HBBRMN040000002C000000', 1, 'error', 'runner', 1795878675099, 1795878685152, 1795878675152, 1795878675223, 'the function answered with status 500', 500);
INSERT INTO public.call_attempts VALUES ('01M8HBBRSH040000002G000000', 1, 'running', 'runner', 1795878675390, 1795878685401, 1795878675401, NULL, NULL, NULL);
INSERT INTO public.call_keys VALUES ('00000000010000000008000001', 'order 4711', 'd093aa83c3dfdfcf225679e9b30861f780cb0388fcd1035ec608d6bc78aaa62b', '01M8HBBPMN040000001G000000', NULL, 0);
INSERT INTO public.call_logs VALUES ('01M8HBBPMN040000001G000000', 1, 0, '\x7072696e7465640a');
INSERT INTO public.call_requests VALUES ('01M8HBBPMN040000001G000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBPZ0040000001M000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBQE5040000001R000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBQJ0040000001W000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBQJM0400000020000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBQK70400000024000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBRMA0400000028000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBRMN040000002C000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBRSH040000002G000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBRYD040000002M000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBS3K040000002R000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_requests VALUES ('01M8HBBS6J040000002W000000', '[["content-type","text/plain"]]', '\x696e707574', 'dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3');
INSERT INTO public.call_results VALUES ('01M8HBBPMN040000001G000000', 200, '[]', '\x6f7574707574', 0);
INSERT INTO public.call_results VALUES ('01M8HBBPZ0040000001M000000', 200, '[]', '\x6f7574707574', 0);
INSERT INTO public.call_results VALUES ('01M8HBBQE5040000001R000000', 500, '[]', '\x6e6f', 0);
INSERT INTO public.call_results VALUES ('01M8HBBQK70400000024000000', 500, '[]', '\x6e6f', 0);
INSERT INTO public.call_retention VALUES ('results', 0, '');
INSERT INTO public.call_retention VALUES ('logs', 0, '');
INSERT INTO public.call_snapshots VALUES ('dda000e033f1d04e17a5ab10990d171e146dbc1cca4d2fc4a2f188b62994d4e3', '{"app":{"id":"00000000010000000008000000","name":"shop","created_at":"1970-01-01T00:00:00.001Z","updated_at":"1970-01-01T00:00:00.001Z"},"fn":{"id":"00000000010000000008000001","name":"f","app_id":"00000000010000000008000000","image":"image:1","memory":128,"timeout":30,"idle_timeout":30,"created_at":"1970-01-01T00:00:00.001Z","updated_at":"1970-01-01T00:00:00.001Z"}}', 1795878673057);
INSERT INTO public.call_tags VALUES ('is', 'answered', '01M8HBBPMN040000001G000000');
INSERT INTO public.call_tags VALUES ('is', 'told', '01M8HBBPZ0040000001M000000');
INSERT INTO public.call_tags VALUES ('is', 'failed', '01M8HBBQE5040000001R000000');
INSERT INTO public.call_tags VALUES ('is', 'late', '01M8HBBQJ0040000001W000000');
INSERT INTO public.call_tags VALUES ('is', 'impossible', '01M8HBBQJM0400000020000000');
INSERT INTO public.call_tags VALUES ('is', 'exhausted', '01M8HBBQK70400000024000000');
INSERT INTO public.call_tags VALUES ('is', 'cancelled', '01M8HBBRMA0400000028000000');
INSERT INTO public.call_tags VALUES ('is', 'again', '01M8HBBRMN040000002C000000');
INSERT INTO public.call_tags VALUES ('is', 'running', '01M8HBBRSH040000002G000000');
INSERT INTO public.call_tags VALUES ('is', 'delayed', '01M8HBBRYD040000002M000000');
INSERT INTO public.call_tags VALUES ('is', 'rung', '01M8HBBS3K040000002R000000');
INSERT INTO public.call_tags VALUES ('is', 'accepted', '01M8HBBS6J040000002W000000');
INSERT INTO public.callbacks VALUES ('01M8HBBPZ0040000001M000000', 'http://127.0.0.1:9/done', 1, 1795878675970, NULL, 0, 'the receiver cannot be reached');
INSERT INTO public.calls VALUES ('01M8HBBPMN040000001G000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'success', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"answered"}', 1, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 200, 1795878673057, 1795878673057, 1795900273057, 1795878673366, 1795878673370);
INSERT INTO public.calls VALUES ('01M8HBBPZ0040000001M000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'success', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"told"}', 1, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, 'http://127.0.0.1:9/done', NULL, 200, 1795878673390, 1795878673390, 1795900273390, 1795878673741, 1795878673780);
INSERT INTO public.calls VALUES ('01M8HBBQE5040000001R000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'error', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"failed"}', 1, 1, 1, 0, 0, 0, 0, 'the function answered with status 500', NULL, NULL, NULL, NULL, 500, 1795878673863, 1795878673863, 1795900273863, 1795878673976, 1795878673980);
INSERT INTO public.calls VALUES ('01M8HBBQJ0040000001W000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'timeout', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"late"}', 1, 1, 1, 0, 0, 0, 0, 'it failed', NULL, NULL, NULL, NULL, NULL, 1795878673985, 1795878673985, 1795900273985, 1795878673998, 1795878674003);
INSERT INTO public.calls VALUES ('01M8HBBQJM0400000020000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'dead', 'permanent', '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"impossible"}', 1, 0, 3, 0, 0, 0, 0, 'it failed', NULL, NULL, NULL, NULL, NULL, 1795878674005, 1795878674005, 1795900274005, 1795878674018, 1795878674020);
INSERT INTO public.calls VALUES ('01M8HBBQK70400000024000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'dead', 'retries_exhausted', '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"exhausted"}', 2, 2, 2, 0, 0, 0, 1000, 'the function answered with status 500', NULL, NULL, NULL, NULL, 500, 1795878674024, 1795878675039, 1795900274024, 1795878675059, 1795878675077);
INSERT INTO public.calls VALUES ('01M8HBBRMA0400000028000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'cancelled', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"cancelled"}', 0, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 1795878675084, 1795882275084, 1795903875084, NULL, 1795878675091);
INSERT INTO public.calls VALUES ('01M8HBBRMN040000002C000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'queued', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"again"}', 1, 1, 3, 0, 0, 0, 1000, 'the function answered with status 500', NULL, NULL, NULL, NULL, NULL, 1795878675094, 1795878676223, 1795900275094, 1795878675152, NULL);
INSERT INTO public.calls VALUES ('01M8HBBRSH040000002G000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'running', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"running"}', 1, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 'runner', NULL, 1795878675254, 1795878675254, 1795900275254, NULL, NULL);
INSERT INTO public.calls VALUES ('01M8HBBRYD040000002M000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'delayed', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"delayed"}', 0, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 1795878675406, 1795878690406, 1795900290406, NULL, NULL);
INSERT INTO public.calls VALUES ('01M8HBBS3K040000002R000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'queued', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"rung"}', 0, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 1795878675572, 1795878675572, 1795900275572, NULL, NULL);
INSERT INTO public.calls VALUES ('01M8HBBS6J040000002W000000', '00000000010000000008000000', '00000000010000000008000001', NULL, 'async', 'queued', NULL, '/invoke/00000000010000000008000001', 'POST', '/invoke/00000000010000000008000001', 'image:1', 0, '{"is":"accepted"}', 0, 0, 3, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 1795878675691, 1795878675691, 1795900275691, NULL, NULL);
INSERT INTO public.doorbells VALUES ('01M8HBBRMN040000002C000000', 1, '00000000010000000008000001', 0, '00000000010000000008000001/0', 1795878676223, 1795900275094, 0, NULL);
INSERT INTO public.doorbells VALUES ('01M8HBBRYD040000002M000000', 0, '00000000010000000008000001', 0, '00000000010000000008000001/0', 1795878690406, 1795900290406, 1, NULL);
INSERT INTO public.doorbells VALUES ('01M8HBBS3K040000002R000000', 0, '00000000010000000008000001', 0, '00000000010000000008000001/0', 1795878675572, 1795900275572, 0, 1795878675635);
INSERT INTO public.doorbells VALUES ('01M8HBBS6J040000002W000000', 0, '00000000010000000008000001', 0, '00000000010000000008000001/0', 1795878675691, 1795900275691, 0, NULL);
INSERT INTO public.fns VALUES ('00000000010000000008000001', 'f', '00000000010000000008000000', 'image:1', 128, 30, 30, '{}', '{}', NULL, 1, 1);
INSERT INTO public.schema_migrations VALUES (4, false);
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_name_unique UNIQUE (name);
ALTER TABLE ONLY public.apps
    ADD CONSTRAINT apps_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.call_attempts
    ADD CONSTRAINT call_attempts_pkey PRIMARY KEY (call_id, epoch);
ALTER TABLE ONLY public.call_keys
    ADD CONSTRAINT call_keys_pkey PRIMARY KEY (fn_id, idempotency_key);
ALTER TABLE ONLY public.call_logs
    ADD CONSTRAINT call_logs_pkey PRIMARY KEY (call_id, epoch, start);
ALTER TABLE ONLY public.call_requests
    ADD CONSTRAINT call_requests_pkey PRIMARY KEY (call_id);
ALTER TABLE ONLY public.call_results
    ADD CONSTRAINT call_results_pkey PRIMARY KEY (call_id);
ALTER TABLE ONLY public.call_retention
    ADD CONSTRAINT call_retention_pkey PRIMARY KEY (kind);
ALTER TABLE ONLY public.call_snapshots
    ADD CONSTRAINT call_snapshots_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY public.call_tags
    ADD CONSTRAINT call_tags_pkey PRIMARY KEY (name, value, call_id);
ALTER TABLE ONLY public.callbacks
    ADD CONSTRAINT callbacks_pkey PRIMARY KEY (call_id);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT calls_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.doorbells
    ADD CONSTRAINT doorbells_pkey PRIMARY KEY (call_id);
ALTER TABLE ONLY public.fns
    ADD CONSTRAINT fns_name_unique UNIQUE (app_id, name);
ALTER TABLE ONLY public.fns
    ADD CONSTRAINT fns_owner_unique UNIQUE (app_id, id);
ALTER TABLE ONLY public.fns
    ADD CONSTRAINT fns_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.lb_nodes
    ADD CONSTRAINT lb_nodes_pkey PRIMARY KEY (address);
ALTER TABLE ONLY public.runners
    ADD CONSTRAINT runners_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT triggers_name_unique UNIQUE (app_id, fn_id, name);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT triggers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT triggers_source_unique UNIQUE (app_id, type, source);
CREATE INDEX call_attempts_leases ON public.call_attempts USING btree (lease_until) WHERE (status = 'running'::text);
CREATE INDEX call_keys_held ON public.call_keys USING btree (hold_until) WHERE (hold_until IS NOT NULL);
CREATE INDEX call_keys_of_call ON public.call_keys USING btree (call_id);
CREATE INDEX call_snapshots_used ON public.call_snapshots USING btree (used_at);
CREATE INDEX call_tags_of_call ON public.call_tags USING btree (call_id);
CREATE INDEX callbacks_due ON public.callbacks USING btree (due_at) WHERE (ended_at IS NULL);
CREATE INDEX calls_by_app ON public.calls USING btree (app_id, kind, state, id);
CREATE INDEX calls_by_fn ON public.calls USING btree (fn_id, kind, state, id);
CREATE INDEX calls_by_path ON public.calls USING btree (substr(path, 1, 256), id);
CREATE INDEX calls_by_state ON public.calls USING btree (kind, state, id);
CREATE INDEX calls_over ON public.calls USING btree (completed_at, id) WHERE (completed_at IS NOT NULL);
CREATE INDEX doorbells_expiring ON public.doorbells USING btree (expires_at);
CREATE INDEX doorbells_rung ON public.doorbells USING btree (rung_at) WHERE (rung_at IS NOT NULL);
CREATE INDEX doorbells_rung_of_fn ON public.doorbells USING btree (fn_id) WHERE (rung_at IS NOT NULL);
CREATE INDEX doorbells_unrung ON public.doorbells USING btree (lane, due_at) WHERE (rung_at IS NULL);
CREATE INDEX triggers_list ON public.triggers USING btree (app_id, name, id);
ALTER TABLE ONLY public.fns
    ADD CONSTRAINT fns_app_exists FOREIGN KEY (app_id) REFERENCES public.apps(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.triggers
    ADD CONSTRAINT triggers_fn_exists FOREIGN KEY (app_id, fn_id) REFERENCES public.fns(app_id, id) ON DELETE CASCADE;
