//! The whole bench, small: every row is there, well formed, and made by an engine that reads back what was written.

use std::path::Path;
use std::process::Command;

fn bench(arguments: &[&str], directory: &Path) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-bench"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the bench starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_quick_run_has_every_row_and_leaves_nothing_behind() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quick");
    std::fs::create_dir_all(&directory).expect("a directory of its own");
    let (done, names, _) = bench(&["--list"], &directory);
    assert!(done);
    let (done, table, problem) = bench(&["--quick"], &directory);
    assert!(done, "{table}\n{problem}");
    let rows = std::fs::read_to_string(directory.join("target/bench.jsonl")).expect("the rows are in their file");
    for name in names.lines() {
        let row = rows.lines().find(|row| row.starts_with(&format!("{{\"name\":\"{name}\",")));
        let row = row.unwrap_or_else(|| panic!("no row {name} in\n{rows}"));
        assert!(row.ends_with("\"}"), "{row}");
        if row.contains("\"skipped\":") {
            continue;
        }
        for field in ["value", "unit", "baseline", "baseline_name", "ratio", "floor", "goal", "verdict", "spread"] {
            assert!(row.contains(&format!("\"{field}\":")), "{field} in {row}");
        }
        assert!(table.contains(name), "{name} in\n{table}");
    }
    assert_eq!(rows.lines().count(), names.lines().count());
    let left = std::fs::read_dir(directory.join("target")).expect("there is the file of rows").count();
    assert_eq!(left, 1, "only the file of rows stays");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (arguments, part) in [
        (&["--fast"][..], "--fast is not an option"),
        (&["--only", "engine.nothing"], "no row"),
        (&["--profile", "x"], "--profile takes"),
    ] {
        let (done, _, problem) = bench(arguments, directory);
        assert!(!done && problem.contains(part), "{arguments:?}: {problem}");
    }
}
