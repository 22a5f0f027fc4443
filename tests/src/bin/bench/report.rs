//! What was found: rows with bars, tables with the numbers behind them, and notes.

use serde_json::{Map, Value, json};

use crate::plan::{FUNCTION, Plan};

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// One bar, and how it stands.
pub(crate) struct Row {
    /// Such as `P1`.
    pub(crate) id: &'static str,
    /// What is measured.
    pub(crate) what: String,
    /// Hearth's number.
    pub(crate) ours: String,
    /// What it is divided by.
    pub(crate) theirs: String,
    /// The ratio or number that has a bar; not a number when no round counts.
    pub(crate) value: f64,
    /// The unit of `value`.
    pub(crate) unit: &'static str,
    /// The bar.
    pub(crate) bar: Bar,
    /// The same of the original, measured once on a machine of this kind.
    pub(crate) original: &'static str,
}

impl Row {
    /// Whether the bar is met; unknown without a value.
    fn met(&self) -> Option<bool> {
        let met = match self.bar {
            Bar::AtLeast(least) => self.value >= least,
            Bar::AtMost(most) => self.value <= most,
        };
        (!self.value.is_nan()).then_some(met)
    }

    fn bar_text(&self) -> String {
        match self.bar {
            Bar::AtLeast(least) => format!("≥ {least:.2}"),
            Bar::AtMost(most) if self.unit.is_empty() && most.fract() > 0.0 => {
                format!("≤ {most:.2}")
            }
            Bar::AtMost(most) => format!("≤ {most}{}", self.unit),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "no valid run",
        }
    }
}

/// Everything that a run has found.
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    sections: Vec<(&'static str, String)>,
    notes: Vec<String>,
    data: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Self {
        Self {
            facts,
            rows: Vec::new(),
            sections: Vec::new(),
            notes: Vec::new(),
            data: Map::new(),
        }
    }

    /// Adds a bar.
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a sentence that a reader of the numbers needs.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Adds a table of the numbers behind the bars, and the raw ones.
    pub(crate) fn section(&mut self, title: &'static str, table: String, raw: Value) {
        self.sections.push((title, table));
        self.data(&title.to_lowercase().replace(' ', "_"), raw);
    }

    /// Adds raw numbers.
    pub(crate) fn data(&mut self, name: &str, raw: Value) {
        self.data.insert(name.to_owned(), raw);
    }

    /// All of it, for people.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| # | what | Hearth | against | value | bar | | original |\n|---|---|---|---|---|---|---|---|\n"
                .to_owned();
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.id[1..].parse::<u32>().unwrap_or_default());
        for row in rows {
            let Row {
                id,
                what,
                ours,
                theirs,
                value,
                unit,
                original,
                ..
            } = row;
            let (bar, verdict) = (row.bar_text(), row.verdict());
            text.push_str(&format!(
                "| {id} | {what} | {ours} | {theirs} | {value:.2}{unit} | {bar} | {verdict} | {original} |\n"
            ));
        }
        for (title, table) in &self.sections {
            text.push_str(&format!("\n### {title}\n\n{table}"));
        }
        text.push_str("\n### Circumstances\n\n");
        for note in &self.notes {
            text.push_str(&format!("- {note}\n"));
        }
        for (name, value) in &self.facts {
            text.push_str(&format!("- {name}: {value}\n"));
        }
        text
    }

    /// All of it, for programs.
    pub(crate) fn json(&self, plan: &Plan) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| json!({ "id": row.id, "what": row.what, "value": row.value, "unit": row.unit.trim(), "bar": row.bar_text(), "met": row.met() }))
            .collect();
        let facts: Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
            .collect();
        let report = json!({
            "function": FUNCTION,
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "machine": facts,
            "bars": rows,
            "notes": self.notes,
            "data": self.data,
        });
        format!("{report:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_missed_or_unknown() {
        let mut row = Row {
            id: "P1",
            what: String::new(),
            ours: String::new(),
            theirs: String::new(),
            value: 0.7,
            unit: "",
            bar: Bar::AtLeast(0.7),
            original: "0.05",
        };
        assert_eq!(row.verdict(), "met");
        row.bar = Bar::AtMost(0.5);
        assert_eq!(row.verdict(), "missed");
        row.value = f64::NAN;
        assert_eq!(row.verdict(), "no valid run");
    }
}
