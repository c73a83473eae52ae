-- The service's own tables. They do not depend on the outbox.
CREATE SCHEMA IF NOT EXISTS demo;

-- A run is one file. Its outcome is written when it ends, with the acknowledgement of its last step.
CREATE TABLE IF NOT EXISTS demo.run (
    id           text        PRIMARY KEY,                            -- the file's path; on riverstep, an id made from it
    path         text,                                               -- on riverstep: the path
    number       bigint      GENERATED ALWAYS AS IDENTITY UNIQUE,    -- the order of submission
    callback_url text        NOT NULL,
    status       text        CHECK (status IN ('succeeded', 'failed', 'cancelled')),  -- NULL until it ends
    result       bytea,
    error        text,
    attempt      text,                                               -- the mark of the acknowledgement that ended it
    ended_at     timestamptz,                                        -- the service's clock just before that was sent
    CHECK ((status IS NULL) = (ended_at IS NULL))
);

-- A run has one row per step that began. The last of them is ready until the run ends. On riverstep, its steps are
-- River's jobs, and there are no rows here.
CREATE TABLE IF NOT EXISTS demo.step (
    run_id          text   NOT NULL REFERENCES demo.run,
    number          bigint NOT NULL,
    name            text   NOT NULL,
    state           text   NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'done', 'failed', 'cancelled')),
    output          jsonb,                                           -- what is known after this step
    acknowledged_at timestamptz,
    PRIMARY KEY (run_id, number)
);

-- Acknowledgements of a run's last step that were rolled back on purpose: none of them may ever be delivered.
CREATE TABLE IF NOT EXISTS demo.rolled_back (
    attempt text PRIMARY KEY,
    run_id  text NOT NULL
);
