-- Dead calls by their reason, some of which are rare. Other calls do not pay for it.
CREATE INDEX calls_dead ON calls (reason, id) WHERE state = 'dead';
