//! Openings, and how they are judged: what must open, what must be refused, and what must be found.

use holdfast_seal::VolumeKey;
use holdfast_session::{OpenError, Session};

use crate::checker::{Verdict, Violation, prefix, speech, tree};
use crate::faults::Climate;
use crate::model::Observed;
use crate::site::{self, Opened, Refusal};
use crate::world::{Onward, World};

/// Openings that are tried before the disk is made to work.
const TRIES_MAX: u32 = 8;

impl World {
    /// Opens the volume, through whatever disturbs it, and judges what is found.
    pub fn open(&mut self) -> Result<Onward, Violation> {
        if self.chance.chance(0.05) {
            self.try_wrong_key()?;
        }
        for attempt in 0..TRIES_MAX {
            let grant = self.site.registry.grant();
            let anchor = self.site.registry.anchor();
            match self.site.open(self.disk.handle(), grant, anchor) {
                Ok(opened) => {
                    let line = format!("epoch {} opened at record {}", grant.epoch.0, opened.replica.report().head);
                    self.note(|| line);
                    self.tally.lives += 1;
                    self.judge_rollback_missed(&opened)?;
                    self.judge_opened(&opened)?;
                    self.opened = Some(opened);
                    return Ok(Onward::Yes);
                }
                Err(refusal) => {
                    let words = refusal.to_string();
                    self.note(|| format!("refused: {words}"));
                    speech::check(&refusal.to_string())?;
                    if self.judge_refusal(&refusal)? == Onward::Lost {
                        return Ok(Onward::Lost);
                    }
                }
            }
            if attempt + 2 >= TRIES_MAX {
                self.disk.set_faults(holdfast_disk::Faults::none());
            }
        }
        Err(Violation::new("liveness", "the volume does not open although the disk works again"))
    }

    /// A refusal must have a reason, and leave a way on.
    fn judge_refusal(&mut self, refusal: &Refusal) -> Result<Onward, Violation> {
        self.note_silent_faults();
        let rolled_back = matches!(refusal, Refusal::Session(OpenError::RolledBack { .. }));
        if self.plan.climate == Climate::Copied && rolled_back {
            // Right or not, it is what a registry that knows more must say. Somebody decides to live with the copy.
            self.tally.count("refused roll-backs");
            self.judge_roll_back()?;
            self.site.registry.forget_anchor();
            return Ok(Onward::Yes);
        }
        if self.rotten || self.plan.climate == Climate::Rotten && self.disturbed_this_life() {
            self.tally.count("refused rotten volumes");
            return Ok(Onward::Lost);
        }
        if self.disk.is_dead() || self.faulted_this_life() {
            self.crash();
            self.injected_before = self.disk.injected().len();
            return Ok(Onward::Yes);
        }
        if self.disturbed_this_life() || self.disk.faults().capacity.is_some() {
            return Ok(Onward::Yes);
        }
        Err(Violation::new("open", refusal.to_string()))
    }

    /// Whether the disk could be older than the anchor at all.
    fn judge_roll_back(&self) -> Verdict {
        let anchor = self.site.registry.anchor();
        let explained = anchor.is_some_and(|anchor| {
            self.copies.iter().any(|copy| copy.anchor != Some(anchor)) || anchor.seq.0 > self.model.flushed()
        });
        if explained {
            return Ok(());
        }
        Err(Violation::new("roll-back", "the disk was refused as rolled back, but it is the newest one"))
    }

    /// What lacks anchored records must not open.
    fn judge_rollback_missed(&self, opened: &Opened) -> Verdict {
        let head = opened.replica.report().head.0;
        match self.site.registry.anchor() {
            Some(anchor) if anchor.seq.0 > head => {
                let what = format!("record {} is anchored, but a log that ends at {head} was opened", anchor.seq);
                Err(Violation::new("roll-back", what))
            }
            _ => Ok(()),
        }
    }

    /// The whole volume is one prefix, and its root is the root of what was written.
    pub fn judge_opened(&mut self, opened: &Opened) -> Verdict {
        let report = opened.replica.report();
        let head = report.head.0;
        self.blocks = opened.session.header().size.blocks();
        let least = if self.plan.climate == Climate::Rotten {
            // A rotten end of the log looks torn. What the registry remembers is there, or nothing is opened.
            self.site.registry.anchor().map_or(0, |anchor| anchor.seq.0)
        } else {
            self.model.flushed()
        };
        let observed = self.observe(opened)?;
        prefix::check(&self.model, &observed, head, least)?;
        if let Some(root) = report.root
            && root.statement.through.0 >= self.model.floor()
        {
            tree::check(&root, &self.model.at(root.statement.through.0))?;
        }
        self.model.cut(head);
        self.model.begin_epoch(opened.session.grant().epoch.0);
        self.fold();
        Ok(())
    }

    /// Forgets the history that nobody can come back to.
    pub fn fold(&mut self) {
        if self.plan.climate != Climate::Rotten {
            let flushed = self.model.flushed();
            self.model.raise_floor(flushed);
        }
    }

    /// Reads every block that was ever used, and says so where that fails without a reason.
    pub fn observe(&mut self, opened: &Opened) -> Result<Observed, Violation> {
        let (mut observed, mut unread) = (Observed::default(), Vec::new());
        let slots: Vec<u64> = self.plan.slots.iter().copied().filter(|slot| *slot < self.blocks).collect();
        let mut at = 0;
        while at < slots.len() {
            let run = (at..slots.len()).take_while(|next| slots[*next] - slots[at] == (next - at) as u64).count();
            let foreign = site::observe(&opened.session, slots[at], run as u64, &mut observed, &mut unread);
            if let Some(block) = foreign.first() {
                return Err(Violation::new("read", format!("block {block} holds what was never written there")));
            }
            at += run;
        }
        if let Some((block, error)) = unread.first() {
            let line = format!("{} blocks cannot be read, the first is {block}: {error}", unread.len());
            self.note(|| line);
            speech::check(&error.to_string())?;
            self.excuse(error, opened)?;
            if self.rotten && !self.disk.is_dead() {
                self.judge_scrub_finds(opened)?;
            }
        }
        Ok(observed)
    }

    /// What cannot be read, a scrub finds as well.
    fn judge_scrub_finds(&mut self, opened: &Opened) -> Verdict {
        match opened.session.scrub() {
            Ok(report) if report.findings.is_empty() && report.replica.findings.is_empty() => {
                Err(Violation::new("scrub", "blocks cannot be read, but a scrub finds nothing"))
            }
            _ => Ok(()),
        }
    }

    /// A wrong key opens nothing, and harms nothing.
    fn try_wrong_key(&mut self) -> Verdict {
        if self.disturbed_this_life() || self.rotten {
            return Ok(());
        }
        let Ok(store) = self.site.open_store(self.disk.handle()) else { return Ok(()) };
        let mut options = self.site.open_options(self.site.registry.grant(), self.site.registry.anchor());
        options.key = VolumeKey::from_bytes([0x55; 32]);
        self.tally.count("wrong keys");
        match Session::open(vec![self.site.watched(&store)], options) {
            Ok(_) => Err(Violation::new("sealed", "the volume opens under a wrong key")),
            Err(error) => speech::check(&error.to_string()),
        }
    }
}
