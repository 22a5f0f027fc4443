//! Tables of settings for the documentation.

use std::fmt::Write as _;

use super::Declaration;

/// The settings as a Markdown table, sorted by name.
pub fn markdown(table: &[Declaration]) -> String {
    let mut rows = table.to_vec();
    rows.sort_unstable_by_key(|row| row.name);
    let mut text = "| Setting | Value | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let default = match row.default {
            "" => "none".to_owned(),
            default => format!("`{}`", cell(default)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} |",
            row.name,
            cell(row.kind),
            cell(row.doc)
        );
    }
    text
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_bars_escaped() {
        let row = |name, default, doc| Declaration {
            name,
            kind: "text",
            default,
            doc,
            secret: false,
        };
        assert_eq!(
            markdown(&[row("FN_B", "x|y", " Doc b."), row("FN_A", "", " Doc a.")]),
            "| Setting | Value | Default | Meaning |\n|---|---|---|---|\n\
             | `FN_A` | text | none | Doc a. |\n\
             | `FN_B` | text | `x\\|y` | Doc b. |\n"
        );
    }
}
