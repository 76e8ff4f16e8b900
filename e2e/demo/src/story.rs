//! The story, a function for each step.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_vocabulary::BLOCK_BYTES;

use crate::node::{DemoKey, Node, Opened, SIZE};
use crate::screen::{Screen, size};
use crate::sweeper::Swept;
use crate::writer::{self, FIRST_BLOCK};
use crate::{Outcome, poem};

/// Where the poem goes.
const POEM_AT: u64 = 7 * BLOCK_BYTES as u64;
/// Where something goes that is large enough to be missed when it is discarded.
const FILLER_AT: u64 = 64 << 20;
const FILLER_BYTES: usize = 8 << 20;

/// Tells all of it.
pub fn tell() -> Outcome<()> {
    let start = Instant::now();
    let swept = Swept::new()?;
    let directory = swept.path().join("replica");
    let mut screen = Screen::new();
    println!("Holdfast keeps a volume as a sealed log: encrypted blocks, each written once.");
    println!("This shows it on real files in {}", swept.path().display());
    println!("The key is a demo key. It is drawn at random, in memory only, and never stored.");

    let key = DemoKey::draw();
    let mut node = Node::new(&directory)?;
    create(&mut screen, &node, &directory, &key)?;
    let opened = write_poem(&mut screen, &mut node, &directory, &key)?;
    search(&mut screen, &directory)?;
    fence(&mut screen, &mut node, opened, &key)?;
    kill(&mut screen, &mut node, &directory, &key)?;
    flip(&mut screen, &mut node, &directory, &key)?;
    wrong_key(&mut screen, &mut node, &key)?;
    discard(&mut screen, &mut node, &key)?;

    println!();
    let path = swept.path().to_owned();
    drop(swept);
    let gone = if fs::metadata(&path).is_err() { "is gone" } else { "could not be removed" };
    println!("That was it, in {:.1} s; {} {gone}.", start.elapsed().as_secs_f64(), path.display());
    println!("Next: make test, make bench, ARCHITECTURE.md.");
    Ok(())
}

fn create(screen: &mut Screen, node: &Node, directory: &Path, key: &DemoKey) -> Outcome<()> {
    screen.step("A new volume", "An empty volume costs next to nothing, however large it is.");
    node.create(key)?;
    screen.seen(&format!("a volume of {} in {}", size(SIZE), directory.display()));
    screen.seen(&format!("files are written with {}", node.mode_name()));
    list(screen, directory)
}

fn write_poem(screen: &mut Screen, node: &mut Node, directory: &Path, key: &DemoKey) -> Outcome<Opened> {
    screen.step("Something to keep", "A write is sealed once; a flush makes it durable before it returns.");
    let opened = node.open(key)?;
    screen.quote(poem::LINES);
    opened.session.write(POEM_AT, &poem::block())?;
    opened.session.flush()?;
    screen.seen(&format!("written to byte {POEM_AT} of the volume, and flushed"));
    list(screen, directory)?;
    expect_poem(&opened)?;
    screen.good("the volume reads it back");
    Ok(opened)
}

fn search(screen: &mut Screen, directory: &Path) -> Outcome<()> {
    screen.step(
        "Nothing of it is in the files",
        "The directory is all that a replica has. It never sees a key, and works on ciphertext alone.",
    );
    let control = poem::found_in(&poem::block());
    screen.seen(&format!("the search finds {control} of {} lines and words in the poem itself", poem::needle_count()));
    let (files, bytes, hits) = poem::search(directory)?;
    ensure(hits == 0 && control == poem::needle_count(), "plaintext was found in a file")?;
    screen.good(&format!("and none in all {} of the {files} files", size(bytes)));
    Ok(())
}

fn fence(screen: &mut Screen, node: &mut Node, opened: Opened, key: &DemoKey) -> Outcome<()> {
    screen.step(
        "One at a time",
        "A directory is open in one process at a time, and every opening is a new epoch that fences the ones before.",
    );
    match node.open(key) {
        Err(error) => screen.good(&format!("a second opening is refused: {error}")),
        Ok(_) => return Err("a directory was opened twice at once".into()),
    }
    opened.session.close()?;
    screen.seen(&format!("closed; the registry remembers the head at record {}", opened.session.stats().records));
    Ok(())
}

fn kill(screen: &mut Screen, node: &mut Node, directory: &Path, key: &DemoKey) -> Outcome<()> {
    screen.step(
        "kill -9 in the middle of writing",
        "Another process writes numbered lines, one a block, and flushes now and then. Then it is killed.",
    );
    // So that the registry's newest anchor goes with it.
    drop(node.open(key)?);
    let (durable, flushes) = writer::run_and_kill(node, directory, key, Duration::from_millis(1500))?;
    screen.seen(&format!("it was told {flushes} times that its lines are durable, the last time at line {durable}"));
    screen.seen("killed");
    let start = Instant::now();
    let opened = node.open(key)?;
    let took = start.elapsed();
    let (mut bytes, mut last) = (vec![0; BLOCK_BYTES], 0);
    loop {
        opened.session.read((FIRST_BLOCK + last + 1) * BLOCK_BYTES as u64, &mut bytes)?;
        if bytes != writer::line(last + 1) {
            break;
        }
        last += 1;
    }
    screen.seen(&format!("opened again in {:.0} ms; lines 1 to {last} are there", took.as_secs_f64() * 1e3));
    ensure(last >= durable, "a line is missing that was durable")?;
    for number in last + 1..last + 1000 {
        opened.session.read((FIRST_BLOCK + number) * BLOCK_BYTES as u64, &mut bytes)?;
        ensure(bytes.iter().all(|byte| *byte == 0), "there is a line behind a missing one")?;
    }
    screen.good(&format!("nothing durable is lost: {last} is not less than {durable}"));
    screen.good("it is a prefix: behind the last line nothing was written, not even a part");
    expect_poem(&opened)?;
    screen.good("the poem is still there");
    opened.session.close()?;
    Ok(())
}

fn flip(screen: &mut Screen, node: &mut Node, directory: &Path, key: &DemoKey) -> Outcome<()> {
    screen.step("One bit rots", "A block that is not exactly what was sealed is an error, never data.");
    let (path, offset) = flip_poem(directory)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    screen.seen(&format!("one bit of {name} is flipped, at byte {offset}"));
    let opened = node.open(key)?;
    let mut bytes = vec![0xee; BLOCK_BYTES];
    let Err(error) = opened.session.read(POEM_AT, &mut bytes) else {
        return Err("a rotten block was read as if it were whole".into());
    };
    screen.good(&format!("the read fails: {error}"));
    ensure(bytes.iter().all(|byte| *byte == 0), "bytes came with the error")?;
    screen.good("and no byte of it was handed out");
    let mut other = vec![0; BLOCK_BYTES];
    opened.session.read((FIRST_BLOCK + 1) * BLOCK_BYTES as u64, &mut other)?;
    ensure(other == writer::line(1), "another block was affected")?;
    screen.good("every other block reads as before");
    let report = opened.session.scrub()?;
    for finding in &report.replica.findings {
        let block = finding.block.map_or(String::new(), |block| format!(" (block {block} of the volume)"));
        screen.seen(&format!(
            "a scrub names it, without any key: {} at byte {}{block}: {}",
            finding.file, finding.offset, finding.problem
        ));
    }
    ensure(report.replica.findings.iter().any(|finding| finding.file == name), "the scrub did not name the file")?;
    drop(opened);
    flip_bit(&path, offset)?;
    let opened = node.open(key)?;
    expect_poem(&opened)?;
    screen.good("flipped back, the poem reads again; with a second replica, that would have been repaired from it");
    opened.session.close()?;
    Ok(())
}

fn wrong_key(screen: &mut Screen, node: &mut Node, key: &DemoKey) -> Outcome<()> {
    screen.step("Another key", "A key is known by its name before anything is tried with it.");
    match node.try_open(&DemoKey::draw())? {
        Err(error) => screen.good(&format!("refused: {error}")),
        Ok(_) => return Err("the volume opened with another key".into()),
    }
    let opened = node.open(key)?;
    expect_poem(&opened)?;
    screen.good("with its own key it opens as before");
    opened.session.close()?;
    Ok(())
}

fn discard(screen: &mut Screen, node: &mut Node, key: &DemoKey) -> Outcome<()> {
    screen.step("Giving room back", "What is discarded reads as zeros, and collection returns its room.");
    let opened = node.open(key)?;
    let session = &opened.session;
    session.write(FILLER_AT, &vec![0x5a; FILLER_BYTES])?;
    session.checkpoint()?;
    let before = session.stats().replica;
    session.discard(FILLER_AT, FILLER_BYTES as u64)?;
    session.discard(POEM_AT, BLOCK_BYTES as u64)?;
    let mut bytes = vec![0xee; BLOCK_BYTES];
    session.read(POEM_AT, &mut bytes)?;
    ensure(bytes.iter().all(|byte| *byte == 0), "a discarded block still has its bytes")?;
    screen.good("the poem's place reads as zeros");
    // Room is freed when two bases in a row do not need it: either could be the one to recover from.
    for number in 0..3_u64 {
        session.write((number + 1) * BLOCK_BYTES as u64, &vec![1; BLOCK_BYTES])?;
        session.checkpoint()?;
        session.tick()?;
    }
    let after = session.stats().replica;
    screen.seen(&format!("live data {} -> {}", size(before.live_bytes), size(after.live_bytes)));
    screen.seen(&format!("segment files {} -> {}", size(before.segment_bytes), size(after.segment_bytes)));
    ensure(after.segment_bytes < before.segment_bytes, "no room was given back")?;
    let stats = session.stats();
    screen.seen(&format!(
        "this session: {} written, {} records in {} groups, {} flushes, {} disk syncs, {} bases",
        size(stats.written_bytes),
        stats.records,
        stats.groups,
        stats.flushes,
        stats.replica.syncs,
        stats.advances
    ));
    session.close()?;
    Ok(())
}

fn expect_poem(opened: &Opened) -> Outcome<()> {
    let mut bytes = vec![0; BLOCK_BYTES];
    opened.session.read(POEM_AT, &mut bytes)?;
    ensure(bytes == poem::block(), "the poem is not what was written")
}

fn ensure(so: bool, otherwise: &str) -> Outcome<()> {
    if so { Ok(()) } else { Err(format!("the promise is broken: {otherwise}").into()) }
}

/// Every file with its size, and the room that it takes.
fn list(screen: &Screen, directory: &Path) -> Outcome<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?));
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    let lines: Vec<String> = files.iter().map(|(name, facts)| format!("{name:<16} {:>8}", size(facts.len()))).collect();
    screen.quote(lines.iter().map(String::as_str));
    let bytes = files.iter().map(|(_, facts)| facts.blocks() * 512).sum();
    screen.seen(&format!("{} files, {} on the disk", files.len(), size(bytes)));
    Ok(())
}

/// Flips a bit of the poem's record. It was the first thing that was written, so it lies in the first segment of data: a
/// sector of head, a sector of the group's header, then the record.
fn flip_poem(directory: &Path) -> Outcome<(PathBuf, u64)> {
    const RECORD_AT: u64 = 2;
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_segment = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("seg-"));
        if is_segment && fs::metadata(&path)?.len() > BLOCK_BYTES as u64 {
            segments.push(path);
        }
    }
    segments.sort();
    let path = segments.into_iter().next().ok_or("there is no segment with data")?;
    // The head says how long a sector is.
    let mut sector = [0; 4];
    fs::File::open(&path)?.read_exact_at(&mut sector, 52)?;
    let offset = RECORD_AT * u64::from(u32::from_le_bytes(sector)) + 1000;
    flip_bit(&path, offset)?;
    Ok((path, offset))
}

fn flip_bit(path: &Path, offset: u64) -> Outcome<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 0x10], offset)?;
    Ok(file.sync_all()?)
}
