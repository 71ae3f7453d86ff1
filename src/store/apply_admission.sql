-- What nearly every call writes, one row a step: its admission, and its settle at what it had reserved of one package. Each row is checked and applied alone, in
-- turn, so an account's rows of one commit carry consecutive versions. A version that is not the expected one becomes null, which its column refuses. A
-- row without a kind fills a statement up, and is nothing.
-- 1: an admission. `number` is the end of the lease.
CREATE TRIGGER apply_admission INSTEAD OF INSERT ON steps WHEN NEW.kind = 1 BEGIN
    UPDATE accounts SET version = iif(version = NEW.version, version + 1, NULL), entry_count = NEW.seq, last_call_at_ms = NEW.at_ms
    WHERE account_id = NEW.account_id;
    UPDATE packages SET held = NEW.held WHERE account_id = NEW.account_id AND number = NEW.package_number;
    INSERT INTO calls VALUES (NEW.account_id, NEW.request_id, 'held', NEW.number, NEW.seq, NEW.detail);
    -- 4: a hold.
    INSERT INTO entries
    VALUES (NEW.account_id, NEW.seq, 4, NEW.package_number, NEW.quantity, NEW.request_id, NULL, NEW.at_ms);
END
