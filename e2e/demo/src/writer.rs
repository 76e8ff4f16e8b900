//! A process that writes until it is killed, and says after each flush how far it is.
//!
//! It gets what it must know on its input: key, epoch and anchor. Nothing secret is ever on a command line, where every
//! process of the machine could read it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_log::anchor::Anchor;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::Outcome;
use crate::node::{DemoKey, Node};

/// The word on the command line that makes this process a writer.
pub const WORD: &str = "--write-until-killed";
/// The block that the first line goes to; each has one of its own.
pub const FIRST_BLOCK: u64 = 1000;
/// Lines that may be written; far more than there is time for.
const LINES_MAX: u64 = 200_000;
/// Lines between two flushes.
const FLUSH_EVERY: u64 = 24;

/// What line `number` says, as a block.
pub fn line(number: u64) -> Vec<u8> {
    let mut bytes = format!("line {number} of a story that nobody finished\n").into_bytes();
    bytes.resize(BLOCK_BYTES, b'.');
    bytes
}

/// Lets a writer work for a while and kills it. Gives the last line that it was told was durable, and how often it
/// flushed.
pub fn run_and_kill(node: &mut Node, directory: &Path, key: &DemoKey, time: Duration) -> Outcome<(u64, u64)> {
    node.epoch += 1;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(WORD).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let told = tell_and_watch(&mut child, node, key, time);
    // SIGKILL: the process gets no chance to tidy anything up.
    child.kill()?;
    child.wait()?;
    let (mut durable, mut flushes, mut output) = told?;
    // What it had said before it died is still in the pipe; a line that was cut off does not count.
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    for said in text.split_inclusive('\n').filter(|said| said.ends_with('\n')) {
        note(said, &mut durable, &mut flushes)?;
    }
    Ok((durable, flushes))
}

type Told = (u64, u64, BufReader<std::process::ChildStdout>);

fn tell_and_watch(child: &mut Child, node: &Node, key: &DemoKey, time: Duration) -> Outcome<Told> {
    let mut input = child.stdin.take().ok_or("the writer has no input")?;
    input.write_all(key.bytes())?;
    input.write_all(&node.epoch.to_le_bytes())?;
    if let Some(anchor) = &node.anchor {
        input.write_all(&anchor.to_bytes())?;
    }
    drop(input);
    let mut output = BufReader::new(child.stdout.take().ok_or("the writer has no output")?);
    let (mut durable, mut flushes, mut said) = (0, 0, String::new());
    let start = Instant::now();
    while start.elapsed() < time || flushes < 3 {
        said.clear();
        if output.read_line(&mut said)? == 0 {
            return Err("the writer ended by itself; its error is above".into());
        }
        note(&said, &mut durable, &mut flushes)?;
    }
    Ok((durable, flushes, output))
}

fn note(said: &str, durable: &mut u64, flushes: &mut u64) -> Outcome<()> {
    *durable = said.trim().parse()?;
    *flushes += 1;
    Ok(())
}

/// What the writer does.
pub fn write_until_killed(directory: &Path) -> Outcome<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let (key, rest) = input.split_first_chunk().ok_or("no key was given")?;
    let (epoch, anchor) = rest.split_first_chunk().ok_or("no epoch was given")?;
    let mut node = Node::new(directory)?;
    node.epoch = u64::from_le_bytes(*epoch) - 1;
    node.anchor = if anchor.is_empty() { None } else { Some(Anchor::from_bytes(anchor)?) };
    let opened = node.open(&DemoKey::from_bytes(*key))?;
    let mut output = std::io::stdout();
    for number in 1..=LINES_MAX {
        opened.session.write((FIRST_BLOCK + number) * BLOCK_BYTES as u64, &line(number))?;
        if number % FLUSH_EVERY == 0 {
            opened.session.flush()?;
            writeln!(output, "{number}")?;
            output.flush()?;
        }
    }
    Err("nobody killed the writer".into())
}
