-- Runners that have registered. All times are the database's, in milliseconds.
CREATE TABLE runners (
    id TEXT NOT NULL PRIMARY KEY,
    -- The name in the certificate of who registered it; null where nodes speak no TLS.
    owner TEXT,
    address TEXT NOT NULL,
    version TEXT NOT NULL,
    draining INTEGER NOT NULL,
    -- Since when it has this address: of two with one address, the newer one is there.
    registered_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;

-- What an operator lists through the management API of a load balancer.
CREATE TABLE lb_nodes (
    address TEXT NOT NULL PRIMARY KEY
) STRICT;
