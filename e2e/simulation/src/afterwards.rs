//! What must hold of whatever a crash left: it opens, it is a prefix, it verifies, and it goes on working.

use holdfast_disk::{Faults, Image, SimulatedDisk};
use holdfast_log::anchor::Anchor;
use holdfast_session::SessionError;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::checker::{Verdict, Violation, prefix, tree};
use crate::content;
use crate::model::{Model, Observed, Record};
use crate::site::{self, Opened, Site};

/// What is known of a volume before it is opened after a crash.
pub struct Expected<'a> {
    /// Its history.
    pub model: &'a Model,
    /// The last record that was acknowledged as durable.
    pub least: u64,
    /// What the registry remembers, if it is asked.
    pub anchor: Option<Anchor>,
    /// The newest epoch that was given.
    pub epoch: u64,
    /// No stamp from this one on was used.
    pub stamp: u64,
    /// Whether also a new base is made and garbage collected.
    pub thorough: bool,
}

fn error(name: &'static str, what: impl std::fmt::Display) -> Violation {
    Violation::new(name, what.to_string())
}

/// Reads all blocks below `blocks` and compares them with the prefix that ends at `head`.
pub fn check_content(opened: &Opened, model: &Model, blocks: u64, head: u64, least: u64) -> Verdict {
    let (mut observed, mut unread) = (Observed::default(), Vec::new());
    let foreign = site::observe(&opened.session, 0, blocks, &mut observed, &mut unread);
    if let Some((block, problem)) = unread.first() {
        return Err(error("read", format!("block {block} cannot be read: {problem}")));
    }
    if let Some(block) = foreign.first() {
        return Err(error("read", format!("block {block} holds bytes that were never written there")));
    }
    prefix::check(model, &observed, head, least)?;
    match opened.replica.report().root {
        Some(root) if root.statement.through.0 >= model.floor() => {
            tree::check(&root, &model.at(root.statement.through.0))
        }
        _ => Ok(()),
    }
}

/// Nothing may be wrong anywhere.
pub fn check_scrub(opened: &Opened) -> Verdict {
    let report = opened.session.scrub().map_err(|problem| error("scrub", problem))?;
    match (report.replica.findings.first(), report.findings.first()) {
        (None, None) => Ok(()),
        (Some(finding), _) => Err(error("scrub", format!("{finding:?}"))),
        (_, Some(finding)) => Err(error("scrub", format!("{finding:?}"))),
    }
}

/// Opens what a crash left, with everything in order afterwards.
pub fn check(site: &Site, image: &Image, expected: &Expected<'_>) -> Verdict {
    let blocks = site.settings.blocks;
    let disk = SimulatedDisk::from_image(expected.epoch, Faults::none(), image);
    let opened = open(site, &disk, expected.anchor)?;
    let head = opened.replica.report().head.0;
    check_content(&opened, expected.model, blocks, head, expected.least)?;
    check_scrub(&opened)?;

    let mut model = expected.model.clone();
    model.cut(head);
    model.begin_epoch(opened.session.grant().epoch.0);
    // Written next to what the history wrote last, so that the tail goes on where it was cut.
    let block = expected.stamp % blocks;
    let bytes = content::blocks(block, 1, expected.stamp);
    let mut written = opened.session.write(block * BLOCK_BYTES as u64, &bytes);
    if matches!(written, Err(SessionError::NoSpace { .. })) {
        // There is garbage enough in every history: a new base and collection must make room.
        upkeep(&opened)?;
        written = opened.session.write(block * BLOCK_BYTES as u64, &bytes);
    }
    written.and_then(|()| opened.session.flush()).map_err(|problem| error("afterwards", problem))?;
    model.issue(Record::Put { block, stamp: expected.stamp });
    model.acknowledge();
    if expected.thorough {
        upkeep(&opened)?;
        check_content(&opened, &model, blocks, model.head(), model.head())?;
    }
    opened.kill();

    let opened = open(site, &disk, site.registry.anchor())?;
    let head = opened.replica.report().head.0;
    check_content(&opened, &model, blocks, head, model.flushed())?;
    if expected.thorough {
        check_scrub(&opened)?;
    }
    site.ledger.lock().verdict()
}

fn open(site: &Site, disk: &SimulatedDisk, anchor: Option<Anchor>) -> Result<Opened, Violation> {
    let grant = site.registry.grant();
    site.open(disk.handle(), grant, anchor).map_err(|refusal| error("open", refusal))
}

/// A new base, all garbage out, and once more.
fn upkeep(opened: &Opened) -> Verdict {
    for _ in 0..2 {
        opened.session.checkpoint().map_err(|problem| error("afterwards", problem))?;
        while opened.replica.collect().map_err(|problem| error("afterwards", problem))? {}
    }
    Ok(())
}
