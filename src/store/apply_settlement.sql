-- 2: a settlement. `number` is what is used of the package.
CREATE TRIGGER apply_settlement INSTEAD OF INSERT ON steps WHEN NEW.kind = 2 BEGIN
    UPDATE accounts SET version = iif(version = NEW.version, version + 1, NULL), entry_count = NEW.seq
    WHERE account_id = NEW.account_id;
    -- A call that is no longer held was ended by another instance: its state becomes null, which its column refuses.
    UPDATE calls SET state = iif(state = 'held', 'settled', NULL), lease_ends_ms = NULL, detail = NEW.detail
    WHERE account_id = NEW.account_id AND request_id = NEW.request_id;
    UPDATE packages SET used = NEW.number, held = NEW.held WHERE account_id = NEW.account_id AND number = NEW.package_number;
    -- 5: a charge of what was held.
    INSERT INTO entries
    VALUES (NEW.account_id, NEW.seq, 5, NEW.package_number, NEW.quantity, NEW.request_id, NULL, NEW.at_ms);
END
