-- Applies one commit document. Rows are arrays, in the order of `commit.rs`:
--   v: accounts seen   [account_id, version, entry_count, overrun, last_call_at_ms]
--   u: moved packages  [account_id, number, granted, used, held]
--   p: packages        [account_id, number, package_id, kind, granted, used, held, starts, expires, priority, created, order_id, standing, digest]
--   n: new calls       [account_id, request_id, state, lease_ends_ms, hold_seq, detail]
--   c: changed calls   the same
--   e: entries         [account_id, seq, kind, package_number, quantity, request_id, correction_id, at_ms]
--   x: corrections     [account_id, target_kind, target, correction_id, quantity, reason, at_ms]
--   o: events          [account_id, seq, type, package_number, request_id, at_ms]
--   m: metrics         [name, increment]
CREATE TRIGGER apply_commit INSTEAD OF INSERT ON commits BEGIN
    SELECT RAISE(ABORT, 'tollgate: stale account')
    FROM json_each(NEW.document, '$.v') AS d
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE account_id = d.value ->> 0 AND version = d.value ->> 1);

    UPDATE accounts SET
        version = version + 1,
        entry_count = d.value ->> 2,
        overrun = d.value ->> 3,
        last_call_at_ms = coalesce(d.value ->> 4, last_call_at_ms)
    FROM json_each(NEW.document, '$.v') AS d
    WHERE account_id = d.value ->> 0;

    UPDATE packages SET granted = d.value ->> 2, used = d.value ->> 3, held = d.value ->> 4
    FROM json_each(NEW.document, '$.u') AS d
    WHERE account_id = d.value ->> 0 AND number = d.value ->> 1;

    INSERT INTO packages
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8,
        value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13
    FROM json_each(NEW.document, '$.p') WHERE true
    ON CONFLICT (account_id, number) DO UPDATE SET
        granted = excluded.granted, used = excluded.used, held = excluded.held, expires_at_ms = excluded.expires_at_ms,
        priority = excluded.priority, standing = excluded.standing;

    INSERT INTO calls
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value -> 5
    FROM json_each(NEW.document, '$.n');

    UPDATE calls SET
        state = d.value ->> 2, lease_ends_ms = d.value ->> 3, hold_seq = d.value ->> 4, detail = d.value -> 5
    FROM json_each(NEW.document, '$.c') AS d
    WHERE account_id = d.value ->> 0 AND request_id = d.value ->> 1;

    INSERT INTO entries
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
    FROM json_each(NEW.document, '$.e');

    INSERT INTO corrections
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
    FROM json_each(NEW.document, '$.x');

    INSERT INTO events
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(NEW.document, '$.o');

    INSERT INTO metrics
    SELECT value ->> 0, value ->> 1
    FROM json_each(NEW.document, '$.m') WHERE true
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value;
END
