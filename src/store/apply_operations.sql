-- Applies one operation: one row of one table. Every value arrives bound, with nothing to parse. What `op` and the columns mean is said in
-- `operation.rs`.
CREATE TRIGGER apply_operation INSTEAD OF INSERT ON operations BEGIN
    -- 1: an account.
    UPDATE accounts SET
        version = version + 1, entry_count = NEW.seq, overrun = NEW.quantity, last_call_at_ms = coalesce(NEW.at_ms, last_call_at_ms)
    WHERE NEW.op = 1 AND account_id = NEW.account_id;

    -- 2: a package whose counters moved.
    UPDATE packages SET granted = NEW.quantity, used = NEW.number_1, held = NEW.number_2
    WHERE NEW.op = 2 AND account_id = NEW.account_id AND number = NEW.package_number;

    -- 3: a call that claims its request id.
    INSERT INTO calls SELECT NEW.account_id, NEW.request_id, NEW.word, NEW.number_1, NEW.seq, NEW.detail WHERE NEW.op = 3;

    -- 4: a call that changed.
    UPDATE calls SET state = NEW.word, lease_ends_ms = NEW.number_1, hold_seq = NEW.seq, detail = NEW.detail
    WHERE NEW.op = 4 AND account_id = NEW.account_id AND request_id = NEW.request_id;

    -- 5: an entry.
    INSERT INTO entries
    SELECT NEW.account_id, NEW.seq, NEW.number_1, NEW.package_number, NEW.quantity, NEW.request_id, NEW.word, NEW.at_ms
    WHERE NEW.op = 5;

    -- 6: a package that is new or whose terms changed, as a JSON array of its columns.
    INSERT INTO packages
    SELECT NEW.account_id, NEW.package_number, NEW.detail ->> 0, NEW.detail ->> 1, NEW.detail ->> 2, NEW.detail ->> 3, NEW.detail ->> 4,
        NEW.detail ->> 5, NEW.detail ->> 6, NEW.detail ->> 7, NEW.detail ->> 8, NEW.detail ->> 9, NEW.detail ->> 10, NEW.detail ->> 11,
        NEW.detail ->> 12
    WHERE NEW.op = 6
    ON CONFLICT (account_id, number) DO UPDATE SET
        granted = excluded.granted, used = excluded.used, held = excluded.held, expires_at_ms = excluded.expires_at_ms,
        priority = excluded.priority, standing = excluded.standing, phase = excluded.phase;

    -- 7: a correction, with its target and reason as a JSON array.
    INSERT INTO corrections
    SELECT NEW.account_id, NEW.detail ->> 0, NEW.detail ->> 1, NEW.word, NEW.number_1, NEW.detail ->> 2, NEW.at_ms
    WHERE NEW.op = 7;
END
