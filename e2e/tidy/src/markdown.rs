//! Tables and links of a Markdown page, as values.

/// A table found by its first header cell: the cells of each row, with the line of the row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The line, from 1.
    pub line: usize,
    /// The cells, without the backticks.
    pub cells: Vec<String>,
}

/// The rows of the first table whose first header cell is `header`.
pub fn table(text: &str, header: &str) -> Option<Vec<Row>> {
    let mut lines = text.lines().enumerate();
    lines.find(|(_, line)| cells(line).first().is_some_and(|cell| cell == header))?;
    lines.next().filter(|(_, line)| line.starts_with("|-"))?;
    let rows = lines.take_while(|(_, line)| line.starts_with('|'));
    Some(rows.map(|(at, line)| Row { line: at + 1, cells: cells(line) }).collect())
}

fn cells(line: &str) -> Vec<String> {
    let Some(inside) = line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|')) else { return Vec::new() };
    inside.split('|').map(|cell| cell.replace('`', "").trim().to_owned()).collect()
}

/// The items of a cell: separated by commas, `—` for none.
pub fn items(cell: &str) -> Vec<String> {
    cell.split(',').map(str::trim).filter(|item| !item.is_empty() && *item != "—").map(str::to_owned).collect()
}

/// The targets of all links, with their lines, code blocks left out.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some(end) = part.find(')') {
                found.push((at + 1, part[..end].to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_by_its_header() {
        let text =
            "| other | x |\n|---|---|\n| 1 | 2 |\n\n| crate | uses |\n|---|---|\n| `a` | `b`, c |\n| `d` | — |\nend";
        let rows = table(text, "crate").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].line, items(&rows[0].cells[1])), (7, vec!["b".to_owned(), "c".to_owned()]));
        assert!(items(&rows[1].cells[1]).is_empty());
        assert!(table(text, "absent").is_none());
    }

    #[test]
    fn links_in_code_are_text() {
        assert_eq!(links("a [b](c) [d](e#f)\n```\n[g](h)\n```"), [(1, "c".to_owned()), (1, "e#f".to_owned())]);
    }
}
