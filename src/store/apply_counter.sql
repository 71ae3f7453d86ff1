-- 3: a counter of the deployment. `detail` is its name.
CREATE TRIGGER apply_counter INSTEAD OF INSERT ON steps WHEN NEW.kind = 3 BEGIN
    INSERT INTO metrics VALUES (NEW.detail, NEW.quantity) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value;
END
