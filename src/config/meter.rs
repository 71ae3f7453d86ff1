//! Reads a product's `meter`: one unit a call, or what a call used.

use super::document::{Table, Value};
use super::error::ConfigError;
use super::section::{Keys, Section};
use super::types::{ChargeWhen, Meter};
use crate::meter::{
    FACTOR_ACCEPTED, Factor, HoldRule, Item, Measure, Overrun, PATH_ACCEPTED, Path, ShortHold, Source, UsageMeter, UsageSettings,
};
use crate::quantity::Quantity;

/// The most items of a product.
const ITEMS_MAX: usize = 32;

/// The most fields of an item or a hold.
const FIELDS_MAX: usize = 8;

/// The longest name of a unit.
const UNIT_LENGTH_MAX: usize = 64;

const UNIT_ACCEPTED: &str = "\"call\", or a name such as \"token\" of 1 to 64 visible ASCII characters";

const USAGE_KEYS: Keys = Keys::known(&["unit", "items", "hold", "short_hold", "overrun", "request_usage"]);
const ITEM_KEYS: Keys = Keys::known(&["field", "from", "measure", "scale", "weight"]);
const HOLD_KEYS: Keys = Keys::known(&["fields", "weight", "default", "input_weight", "min"]);

/// The items of a product metered in tokens that names none, with their weights.
const TOKEN_ITEMS: [([&str; 2], &str); 2] =
    [(["usage.prompt_tokens", "usage.input_tokens"], "1"), (["usage.completion_tokens", "usage.output_tokens"], "3")];

/// Reads the `meter` of a product's table.
pub(super) fn read(product: &Section<'_>) -> Result<Meter, ConfigError> {
    let path = product.key("meter");
    let Some(value) = product.get("meter") else { return Ok(Meter::Call { charge_when: ChargeWhen::Forwarded }) };
    let Value::Table(table) = value else {
        return Err(product.invalid("meter", "a table such as { unit = \"call\" } or { unit = \"token\" }"));
    };
    let meter = Section::any(path.clone(), table);
    match meter.text("unit", UNIT_ACCEPTED)? {
        None | Some("call") => call(path, table),
        Some(unit) => Ok(Meter::Usage(UsageMeter::new(usage(path, table, unit)?))),
    }
}

fn call(path: String, table: &Table) -> Result<Meter, ConfigError> {
    let section = Section::open(path, table, Keys::known(&["unit", "charge_when"]))?;
    let choices = [("forwarded", ChargeWhen::Forwarded), ("succeeded", ChargeWhen::Succeeded)];
    Ok(Meter::Call { charge_when: section.choice("charge_when", ChargeWhen::Forwarded, &choices)? })
}

fn usage(path: String, table: &Table, unit: &str) -> Result<UsageSettings, ConfigError> {
    let section = Section::open(path, table, USAGE_KEYS)?;
    let is_name = (1..=UNIT_LENGTH_MAX).contains(&unit.len()) && unit.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_name {
        return Err(section.invalid("unit", UNIT_ACCEPTED));
    }
    Ok(UsageSettings {
        unit: unit.to_owned(),
        items: items(&section, unit)?,
        hold: hold(section.section("hold", HOLD_KEYS)?)?,
        short_hold: section.choice(
            "short_hold",
            ShortHold::Admit,
            &[("admit", ShortHold::Admit), ("refuse", ShortHold::Refuse)],
        )?,
        overrun: section.choice("overrun", Overrun::Absorb, &[("absorb", Overrun::Absorb), ("carry", Overrun::Carry)])?,
        request_usage: section.truth("request_usage", false)?,
    })
}

fn items(section: &Section<'_>, unit: &str) -> Result<Vec<Item>, ConfigError> {
    if section.get("items").is_none() && unit == "token" {
        let item = |(fields, weight): ([&str; 2], &str)| Item {
            fields: fields.into_iter().filter_map(Path::parse).collect(),
            source: Source::Reply,
            measure: Measure::Number,
            scale: Factor::ONE,
            weight: Factor::parse(weight).unwrap_or(Factor::ONE),
        };
        return Ok(TOKEN_ITEMS.into_iter().map(item).collect());
    }
    let values =
        section.required_list("items", ITEMS_MAX, "a list such as [{ field = [\"usage.total_tokens\"], weight = \"1\" }]")?;
    (1..).zip(values).map(|(position, value)| item(format!("{}[{position}]", section.key("items")), value)).collect()
}

fn item(path: String, value: &Value) -> Result<Item, ConfigError> {
    let section = Section::open_value(path, value, ITEM_KEYS)?;
    let accepted = fields_accepted();
    let fields = paths(&section, "field", section.required_list("field", FIELDS_MAX, &accepted)?)?;
    let scale = factor(&section, "scale", "1")?;
    if scale.is_zero() {
        return Err(section.invalid("scale", format!("{FACTOR_ACCEPTED}, above \"0\"")));
    }
    let measures = [("number", Measure::Number), ("bytes", Measure::Bytes), ("characters", Measure::Characters)];
    Ok(Item {
        fields,
        source: section.choice("from", Source::Reply, &[("response", Source::Reply), ("request", Source::Request)])?,
        measure: section.choice("measure", Measure::Number, &measures)?,
        scale,
        weight: factor(&section, "weight", "1")?,
    })
}

fn hold(section: Option<Section<'_>>) -> Result<HoldRule, ConfigError> {
    let table = Table::default();
    let section = section.unwrap_or_else(|| Section::any(String::new(), &table));
    let fields = match section.get("fields") {
        None => ["max_completion_tokens", "max_tokens"].into_iter().filter_map(Path::parse).collect(),
        Some(_) => paths(&section, "fields", section.list("fields", FIELDS_MAX, &fields_accepted())?)?,
    };
    let min_accepted = "a decimal text such as \"1\" or \"0.5\", above \"0\" and with at most 4 decimals";
    let min = match section.text("min", min_accepted)? {
        None => Quantity::ONE,
        Some(text) => {
            let min = text.parse().ok().filter(|min: &Quantity| !min.is_zero());
            min.ok_or_else(|| section.invalid("min", min_accepted))?
        }
    };
    Ok(HoldRule {
        fields,
        weight: factor(&section, "weight", "3")?,
        default: factor(&section, "default", "4096")?,
        input_weight: factor(&section, "input_weight", "0.25")?,
        min,
    })
}

fn fields_accepted() -> String {
    format!("a list in brackets, each of it {PATH_ACCEPTED}")
}

fn paths(section: &Section<'_>, name: &str, values: &[Value]) -> Result<Vec<Path>, ConfigError> {
    let path = |(position, value): (usize, &Value)| {
        let path = value.as_str().and_then(Path::parse);
        path.ok_or_else(|| section.invalid_item(name, position, value, PATH_ACCEPTED))
    };
    (1..).zip(values).map(path).collect()
}

fn factor(section: &Section<'_>, name: &str, default: &str) -> Result<Factor, ConfigError> {
    let text = section.text(name, FACTOR_ACCEPTED)?.unwrap_or(default);
    Factor::parse(text).ok_or_else(|| section.invalid(name, FACTOR_ACCEPTED))
}

#[cfg(test)]
mod tests {
    use super::{Table, UsageSettings, Value, usage};
    use crate::meter::{Factor, Measure, Overrun, ShortHold, Source, UsageMeter};

    fn settings(text: &str) -> Result<UsageSettings, String> {
        let table = Table::parse(text).unwrap();
        let unit = table.get("unit").and_then(Value::as_str).unwrap_or("token");
        usage("meter".to_owned(), &table, unit).map_err(|error| error.to_string())
    }

    fn debug(text: &str) -> String {
        format!("{:?}", settings(text).unwrap())
    }

    const WRITTEN_OUT: &str = r#"
        unit  = "token"
        items = [
          { field = ["usage.prompt_tokens", "usage.input_tokens"],      weight = "1" },
          { field = ["usage.completion_tokens", "usage.output_tokens"], weight = "3", from = "response", measure = "number", scale = "1" },
        ]
        hold  = { fields = ["max_completion_tokens", "max_tokens"], weight = "3", default = "4096", input_weight = "0.25", min = "1" }
        short_hold    = "admit"
        overrun       = "absorb"
        request_usage = false
    "#;

    #[test]
    fn the_contracts_example_is_what_a_product_in_tokens_is_by_default() {
        assert_eq!(debug(WRITTEN_OUT), debug("unit = \"token\""));
        assert_eq!(debug(WRITTEN_OUT), debug("unit = \"token\"\nhold = { weight = \"3\" }"));
        assert_eq!(UsageMeter::new(settings(WRITTEN_OUT).unwrap()).unit(), "token");
    }

    #[test]
    fn every_key_is_read() {
        let read = settings(
            r#"
            unit = "second"
            items = [
              { field = ["transcripts.content_duration_in_milliseconds"], scale = "0.001", weight = "2.5" },
              { field = ["input"], from = "request", measure = "characters" },
              { field = ["input"], from = "request", measure = "bytes", weight = "0" },
            ]
            hold = { fields = [], weight = "0.5", default = "60", input_weight = "0", min = "0.0001" }
            short_hold = "refuse"
            overrun = "carry"
            request_usage = true
            "#,
        )
        .unwrap();
        assert_eq!((read.unit.as_str(), read.items.len()), ("second", 3));
        assert_eq!((read.items[0].scale, read.items[0].weight), (Factor::parse("0.001").unwrap(), Factor::parse("2.5").unwrap()));
        assert_eq!((read.items[1].source, read.items[1].measure), (Source::Request, Measure::Characters));
        assert_eq!((read.items[2].measure, read.items[2].weight), (Measure::Bytes, Factor::parse("0").unwrap()));
        assert!(read.hold.fields.is_empty());
        assert_eq!((read.hold.default, read.hold.min.to_string()), (Factor::parse("60").unwrap(), "0.0001".to_owned()));
        assert_eq!((read.short_hold, read.overrun, read.request_usage), (ShortHold::Refuse, Overrun::Carry, true));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key_the_value_and_what_is_accepted() {
        let item = |inner: &str| format!("items = [{{ field = [\"a\"] }}, {{ {inner} }}]");
        let hold = |inner: &str| format!("hold = {{ {inner} }}");
        let many = format!("items = [{}]", "{ field = [\"a\"] },".repeat(33));
        for (text, expected) in [
            ("unit = \"\"", "meter.unit: \"\" is not accepted"),
            ("unit = \"two words\"", "meter.unit: \"two words\" is not accepted"),
            ("unit = \"image\"", "meter.items: missing"),
            ("items = []", "meter.items: a list of 0 is not accepted"),
            ("items = \"usage\"", "meter.items: \"usage\" is not accepted"),
            ("items = [7]", "meter.items[1]: 7 is not accepted; accepted: a table"),
            (&many, "meter.items: a list of 33 is not accepted"),
            ("item = []", "meter.item: unknown key; accepted: unit, items, hold"),
            ("charge_when = \"forwarded\"", "meter.charge_when: unknown key"),
            (&item("weight = \"1\""), "meter.items[2].field: missing"),
            (
                &item("field = \"a\""),
                "meter.items[2].field: \"a\" is not accepted; accepted: a list in brackets, each of it keys joined by dots",
            ),
            (&item("field = []"), "meter.items[2].field: a list of 0 is not accepted"),
            (&item("field = [\"a\", \"a..b\"]"), "meter.items[2].field[2]: \"a..b\" is not accepted; accepted: keys joined"),
            (&item("field = [\"$.usage[0]\"]"), "meter.items[2].field[1]: \"$.usage[0]\" is not accepted"),
            (&item("field = [1]"), "meter.items[2].field[1]: 1 is not accepted"),
            (&item("field = [\"a\"], weight = 1.5"), "meter.items[2].weight: 1.5 is not accepted; accepted: a decimal number"),
            (&item("field = [\"a\"], weight = \"-1\""), "meter.items[2].weight: \"-1\" is not accepted"),
            (&item("field = [\"a\"], weight = \"1e3\""), "meter.items[2].weight: \"1e3\" is not accepted"),
            (&item("field = [\"a\"], scale = \"0.0\""), "meter.items[2].scale: \"0.0\" is not accepted"),
            (&item("field = [\"a\"], scale = \"0.0000000001\""), "meter.items[2].scale: \"0.0000000001\" is not accepted"),
            (
                &item("field = [\"a\"], from = \"reply\""),
                "meter.items[2].from: \"reply\" is not accepted; accepted: \"response\"",
            ),
            (&item("field = [\"a\"], measure = \"words\""), "meter.items[2].measure: \"words\" is not accepted"),
            (&item("field = [\"a\"], wait = \"1\""), "meter.items[2].wait: unknown key"),
            (&hold("min = \"0\""), "meter.hold.min: \"0\" is not accepted"),
            (&hold("min = 1"), "meter.hold.min: 1 is not accepted"),
            (&hold("min = \"0.00001\""), "meter.hold.min: \"0.00001\" is not accepted"),
            (&hold("default = \"many\""), "meter.hold.default: \"many\" is not accepted"),
            (&hold("input_weight = \"1000001\""), "meter.hold.input_weight: \"1000001\" is not accepted"),
            (&hold("fields = [\"max tokens\"]"), "meter.hold.fields[1]: \"max tokens\" is not accepted"),
            (&hold("field = []"), "meter.hold.field: unknown key"),
            ("hold = \"1\"", "meter.hold: \"1\" is not accepted; accepted: a table"),
            ("short_hold = \"shrink\"", "meter.short_hold: \"shrink\" is not accepted; accepted: \"admit\", \"refuse\""),
            ("overrun = true", "meter.overrun: true is not accepted; accepted: \"absorb\", \"carry\""),
            ("request_usage = \"yes\"", "meter.request_usage: \"yes\" is not accepted; accepted: true, false"),
        ] {
            let line = settings(text).expect_err(text);
            assert!(line.starts_with(expected) && line.contains("; accepted: "), "{line}\n{expected}");
        }
    }
}
