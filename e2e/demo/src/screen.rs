//! What is printed: 80 columns wide, with a little colour on a terminal and none anywhere else.

use std::io::IsTerminal;

const WIDTH: usize = 80;

/// Where the story is printed.
pub struct Screen {
    colours: bool,
    step: u32,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !plain, step: 0 }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A step: what is done, and a line on why it matters.
    pub fn step(&mut self, title: &str, why: &str) {
        self.step += 1;
        println!();
        println!("{}", self.painted("1;36", &format!("{}. {title}", self.step)));
        self.say(why);
    }

    /// Running text.
    pub fn say(&self, text: &str) {
        wrap(text, "   ").iter().for_each(|line| println!("{line}"));
    }

    /// Something that was seen.
    pub fn seen(&self, text: &str) {
        for (number, line) in wrap(text, "     ").iter().enumerate() {
            let head = if number == 0 { self.painted("33", "   > ") } else { "     ".to_owned() };
            println!("{head}{}", line.trim_start());
        }
    }

    /// Something that was checked and is so.
    pub fn good(&self, text: &str) {
        for (number, line) in wrap(text, "     ").iter().enumerate() {
            let head = if number == 0 { self.painted("32", "  ok ") } else { "     ".to_owned() };
            println!("{head}{}", line.trim_start());
        }
    }

    /// Lines as they are.
    pub fn quote<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        lines.into_iter().for_each(|line| println!("     {}", self.painted("2", line)));
    }
}

/// Words in lines of at most [`WIDTH`] columns, each behind `indent`.
fn wrap(text: &str, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        if line.len() > indent.len() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Bytes in a unit that suits them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, size, wrap};

    #[test]
    fn lines_keep_to_the_width() {
        let text = "word ".repeat(60);
        assert!(wrap(&text, "   ").iter().all(|line| line.len() <= WIDTH && line.starts_with("   word")));
        assert_eq!(wrap("", "  "), ["  "]);
        assert_eq!([size(512), size(20480), size(16 << 20)], ["512 B", "20 KiB", "16 MiB"]);
    }
}
