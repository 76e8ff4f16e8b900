//! The demo as a newcomer runs it, and as somebody who loses patience does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The directory that a story names in its second line.
fn directory(line: &str) -> String {
    line.rsplit(' ').next().expect("the line names a directory").trim().to_owned()
}

#[test]
fn the_story_ends_well_and_leaves_nothing_behind() {
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-demo")).output().expect("the demo starts");
    let text = String::from_utf8(output.stdout).expect("plain text");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["8. Giving room back", "and none in all", "nothing durable is lost", "the read fails", "refused: the volume"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where there is no terminal");
    let path = directory(text.lines().nth(1).expect("a second line"));
    // Where the directory is makes a line as long as it must be.
    let long = text.lines().find(|line| line.chars().count() > 80 && !line.contains(&path));
    assert_eq!(long, None, "a line is too long for a terminal of 80 columns");
    assert!(std::fs::metadata(&path).is_err(), "{path} is still there");
}

#[test]
fn whoever_kills_the_story_finds_its_directory_gone() {
    let mut story =
        Command::new(env!("CARGO_BIN_EXE_holdfast-demo")).stdout(Stdio::piped()).spawn().expect("the demo starts");
    let mut lines = BufReader::new(story.stdout.take().expect("its output")).lines();
    let named = lines.nth(1).expect("a second line").expect("text");
    let path = directory(&named);
    assert!(std::fs::metadata(&path).is_ok(), "{path} is there");
    // Worse than Ctrl-C: it cannot be caught.
    story.kill().expect("it is killed");
    story.wait().expect("it is dead");
    let start = Instant::now();
    while std::fs::metadata(&path).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "{path} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}
