-- One row per message that is being processed or was. Prune it now and then: PostgresStore.Prune, or
--   DELETE FROM webhook_delivery WHERE received_at < now() - interval '7 days';
CREATE TABLE IF NOT EXISTS webhook_delivery (
    webhook_id    text COLLATE "C" PRIMARY KEY CHECK (octet_length(webhook_id) BETWEEN 1 AND 256),
    token         text NOT NULL DEFAULT '',                        -- of the claim
    claimed_until timestamptz,                                     -- NULL: processed
    received_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS webhook_delivery_received_at ON webhook_delivery (received_at);
