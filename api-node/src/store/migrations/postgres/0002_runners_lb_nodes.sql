-- Runners that have registered. All times are the database's, in milliseconds.
CREATE TABLE runners (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- The name in the certificate of who registered it; null where nodes speak no TLS.
    owner TEXT,
    address TEXT COLLATE "C" NOT NULL,
    version TEXT NOT NULL,
    draining BIGINT NOT NULL,
    -- Since when it has this address: of two with one address, the newer one is there.
    registered_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);

-- What an operator lists through the management API of a load balancer.
CREATE TABLE lb_nodes (
    address TEXT COLLATE "C" NOT NULL PRIMARY KEY
);
