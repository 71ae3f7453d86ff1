-- Applies one notice: what an account remembers, what is to be told of it, or an order it made. They are rarer than operations, and apart from them so
-- that each of those runs through fewer statements. A notice comes after the operation that checks its account's version, in one transaction with it.
CREATE TRIGGER apply_notice INSTEAD OF INSERT ON notices BEGIN
    -- 1: what an account remembers.
    UPDATE accounts SET due_at_ms = NEW.at_ms WHERE NEW.op = 1 AND account_id = NEW.account_id;
    INSERT INTO watches SELECT NEW.account_id, NEW.detail WHERE NEW.op = 1
    ON CONFLICT (account_id) DO UPDATE SET watch = excluded.watch;

    -- 2: an event.
    INSERT INTO events (event_id, account_id, type, at_ms, data)
    SELECT NEW.id, NEW.account_id, NEW.word, NEW.at_ms, NEW.detail WHERE NEW.op = 2;

    -- 3: an order that is new or changed.
    INSERT INTO repurchases (repurchase_id, account_id, number, state, detail)
    SELECT NEW.id, NEW.account_id, NEW.number, NEW.word, NEW.detail WHERE NEW.op = 3
    ON CONFLICT (account_id, number) DO UPDATE SET state = excluded.state, detail = excluded.detail;
END
