-- Applies the steps that are not applied yet, all at once: what a thousand steps did to an account, a package or a call is one row here. It runs when the log is told
-- up to where it is applied; until then the tables are what they were at `OLD.applied`.
CREATE TRIGGER apply_steps AFTER UPDATE OF applied ON log BEGIN
    INSERT INTO entries
    SELECT account_id, seq, kind, package_number, quantity, request_id, NULL, at_ms FROM steps
    WHERE position > OLD.applied AND kind > 0 ORDER BY account_id, seq;

    -- A call and a package are what their last steps say.
    INSERT INTO calls
    SELECT account_id, request_id, state, lease_ends_ms, hold_seq, detail FROM
        (SELECT max(position), account_id, request_id, state, lease_ends_ms, hold_seq, detail FROM steps
        WHERE position > OLD.applied AND state IS NOT NULL GROUP BY account_id, request_id)
    WHERE true
    ON CONFLICT (account_id, request_id) DO UPDATE SET
        state = excluded.state, lease_ends_ms = excluded.lease_ends_ms, hold_seq = excluded.hold_seq, detail = excluded.detail;
    UPDATE packages SET used = last.used, held = last.held FROM
        (SELECT max(position), account_id, package_number, used, held FROM steps
        WHERE position > OLD.applied AND kind > 0 GROUP BY account_id, package_number) AS last
    WHERE packages.account_id = last.account_id AND packages.number = last.package_number;

    -- 4: a hold.
    UPDATE accounts SET
        version = version + 1, entry_count = coalesce(moved.seq, entry_count), last_call_at_ms = coalesce(moved.held_at_ms, last_call_at_ms) FROM
        (SELECT account_id, max(seq) AS seq, max(iif(kind = 4, at_ms, NULL)) AS held_at_ms FROM steps
        WHERE position > OLD.applied AND kind >= 0 GROUP BY account_id) AS moved
    WHERE accounts.account_id = moved.account_id;

    -- -1: a counter of the deployment. `detail` is its name. It stays at the largest number that there is.
    INSERT INTO metrics
    SELECT detail, CAST(total(quantity) AS INTEGER) FROM steps WHERE position > OLD.applied AND kind = -1 GROUP BY detail
    ON CONFLICT (name) DO UPDATE SET value = min(value + excluded.value, 9223372036854775807);

    -- Who follows the log and is not far behind still finds what was applied.
    DELETE FROM steps WHERE position <= OLD.applied - 4096;
END
