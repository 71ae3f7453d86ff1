CREATE TRIGGER apply_settlement INSTEAD OF INSERT ON settlements BEGIN
    UPDATE accounts SET version = iif(version = NEW.version, version + 1, NULL), entry_count = NEW.seq
    WHERE account_id = NEW.account_id;
    UPDATE packages SET used = NEW.used, held = NEW.held WHERE account_id = NEW.account_id AND number = NEW.package_number;
    UPDATE calls SET state = 'settled', lease_ends_ms = NULL, detail = NEW.detail
    WHERE account_id = NEW.account_id AND request_id = NEW.request_id;
    -- 5: a charge of what was held.
    INSERT INTO entries
    VALUES (NEW.account_id, NEW.seq, 5, NEW.package_number, NEW.quantity, NEW.request_id, NULL, NEW.at_ms);
END
